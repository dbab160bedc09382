// Programs that mine currencies with the tenants' processors, by what every client of a pool has to say.

rule stratum_client
{
    strings:
        $url1 = "stratum+tcp://"
        $url2 = "stratum+ssl://"
        $url3 = "stratum+tls://"
        $call1 = "mining.subscribe"
        $call2 = "mining.authorize"
        $call3 = "mining.submit"
        $call4 = "mining.notify"
        $call5 = "mining.set_difficulty"
    condition:
        uint32(0) == 0x464C457F and any of ($url*) and 2 of ($call*)
}

rule xmrig_family
{
    strings:
        $name = "xmrig" nocase
        $option1 = "donate-level"
        $option2 = "randomx-mode"
        $option3 = "huge-pages-jit"
        $option4 = "nicehash"
        $option5 = "print-time"
        $hash1 = "cryptonight" nocase
        $hash2 = "randomx"
        $hash3 = "kawpow"
        $hash4 = "rx/0"
        $hash5 = "argon2/chukwa"
    condition:
        uint32(0) == 0x464C457F and 2 of ($option*) and 2 of ($hash*) and ($name or 3 of ($option*))
}

rule miner_started_by_script
{
    strings:
        $url = /stratum2?\+(tcp|ssl|tls):\/\/[A-Za-z0-9.-]{4,80}:[0-9]{2,5}/
        $program1 = "xmrig" nocase
        $program2 = "minerd"
        $program3 = "cpuminer"
        $program4 = "ccminer"
        $program5 = "lolMiner"
        $program6 = "nbminer"
        $program7 = "ethminer"
        $program8 = "--donate-level"
        $program9 = "--rig-id"
    condition:
        filesize < 256KB and uint32(0) != 0x464C457F and $url and any of ($program*)
}

rule monero_wallet_and_pool
{
    strings:
        $wallet = /\b4[0-9AB][1-9A-HJ-NP-Za-km-z]{93}\b/
        $pool1 = "supportxmr.com"
        $pool2 = "nanopool.org"
        $pool3 = "moneroocean.stream"
        $pool4 = "minexmr.com"
        $pool5 = "hashvault.pro"
        $pool6 = "c3pool.com"
        $pool7 = "xmrpool.eu"
        $pool8 = "dwarfpool.com"
    condition:
        filesize < 16MB and $wallet and any of ($pool*)
}
