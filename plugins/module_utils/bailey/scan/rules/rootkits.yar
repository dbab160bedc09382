// What hides other programs, and what writes itself into them.

rule preload_rootkit
{
    strings:
        $preload = "/etc/ld.so.preload"
        $sockets = "/proc/net/tcp"
        $next = "dlsym"
        $hook1 = "readdir64"
        $hook2 = "fopen64"
        $hook3 = "__lxstat64"
        $hook4 = "__xstat64"
        $hook5 = "pcap_loop"
        $hook6 = "pam_authenticate"
        $hook7 = "unlinkat"
    condition:
        uint32(0) == 0x464C457F and uint16(16) == 3 and filesize < 2MB and $preload and $sockets and $next and
        3 of ($hook*)
}

rule rootkit_by_name
{
    strings:
        $name1 = "diamorphine_secret"
        $name2 = "/reptile/reptile_"
        $name3 = "suterusu"
        $name4 = "HIDE_THIS_SHELL"
        $name5 = "azazel_"
        $name6 = "beurk_"
        $name7 = "vlany_"
        $shell = "/bin/sh"
    condition:
        uint32(0) == 0x464C457F and filesize < 4MB and (2 of ($name*) or (any of ($name*) and $shell))
}

// Debuggers do the same on purpose: it is told, and nothing more.
rule injects_by_ptrace : report
{
    strings:
        $open1 = "__libc_dlopen_mode"
        $open2 = "linux-inject"
        $maps = /\/proc\/%[dulz]{1,3}\/maps/
        $memory = /\/proc\/%[dulz]{1,3}\/mem\b/
        $trace = "ptrace"
    condition:
        uint32(0) == 0x464C457F and filesize < 1MB and any of ($open*) and $maps and ($memory or $open2) and $trace
}
