// Reverse shells and what fetches and starts strangers' programs: scripts, small ones, and the best known bots.

rule reverse_shell_bash
{
    strings:
        $tcp = /\/dev\/(tcp|udp)\/[0-9A-Za-z.$\{\}-]{2,80}\/[0-9$\{\}A-Za-z_]{1,30}/
        $back1 = "0>&1"
        $back2 = "<&1"
        $back3 = "0<&"
        $shell = /\b(ba|z|k|da)?sh\s+-i\b/
    condition:
        filesize < 64KB and uint32(0) != 0x464C457F and $tcp and $shell and any of ($back*)
}

rule reverse_shell_python
{
    strings:
        $connect = /\.connect\(\s*\(/
        $dup = /\bdup2\(\s*[A-Za-z_.]{1,30}\.fileno\(\)\s*,\s*[012]\s*\)/
        $shell1 = /pty\.spawn\(\s*\[?\s*["'](\/bin\/)?(ba|z|da)?sh["']/
        $shell2 = /(call|run|Popen)\(\s*\[?\s*["'](\/bin\/)?(ba|z|da)?sh["']/
        $shell3 = /exec[lv]p?e?\(\s*["']\/bin\/(ba|z|da)?sh["']/
    condition:
        filesize < 64KB and uint32(0) != 0x464C457F and $connect and #dup >= 2 and any of ($shell*)
}

rule reverse_shell_perl
{
    strings:
        $socket1 = "IO::Socket::INET"
        $socket2 = "use Socket"
        $stream = /open\s*\(\s*STD(IN|OUT|ERR)\s*,\s*["'][<>+]{1,2}&/
        $shell = /exec\s*[\(\{]?\s*["']?\/bin\/(ba|da)?sh\s+-i/
    condition:
        filesize < 64KB and uint32(0) != 0x464C457F and any of ($socket*) and $stream and $shell
}

rule reverse_shell_netcat
{
    strings:
        $pipe = /mkfifo\s+[^\s;|&]{1,80}[^\n]{0,120}\|\s*(\/bin\/)?(ba|da)?sh(\s+-i)?\b[^\n]{0,60}\|\s*(nc|ncat|netcat)\s/
        $direct = /\b(nc|ncat|netcat)\s[^\n]{0,80}\s(-e|-c|--exec|--sh-exec)\s*(\/bin\/)?(ba|da)?sh\b/
    condition:
        filesize < 64KB and uint32(0) != 0x464C457F and any of them
}

rule dropper_script
{
    strings:
        $fetch = /\b(curl|wget)\s[^\n]{0,200}https?:\/\/[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}[:\/]/
        $place = /\bcd\s+(\/tmp|\/var\/tmp|\/dev\/shm|\/var\/run)/
        $mode = /\bchmod\s+(\+x|[0-7]?7[0-7]{2})\s/
        $clean1 = "history -c"
        $clean2 = "unset HISTFILE"
        $clean3 = /\brm\s+-[rf]{1,2}\s+(\$0|\/var\/log)/
        $clean4 = /\b(pkill|killall)\s[^\n]{0,40}(miner|xmrig|kinsing|kdevtmpfsi)/
        $start = /\bnohup\s|\bsetsid\s|>\s*\/dev\/null\s+2>&1\s*&/
    condition:
        filesize < 64KB and uint32(0) != 0x464C457F and $fetch and $mode and ($place or $start) and any of ($clean*)
}

rule bot_mirai_family
{
    strings:
        $busybox = "/bin/busybox "
        $name1 = "MIRAI"
        $name2 = "LOLNOGTFO"
        $name3 = "GETLOCALIP"
        $name4 = "HTTPFLOOD"
        $name5 = "UDPFLOOD"
        $name6 = "TCPFLOOD"
        $name7 = "SCANNER ON"
        $device = "/dev/watchdog"
    condition:
        uint32(0) == 0x464C457F and filesize < 4MB and
        (($busybox and $device and any of ($name*)) or 3 of ($name*))
}
