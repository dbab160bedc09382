"""The documentation of a container's declaration."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that say what a container is and what it may use."""

    DOCUMENTATION = r"""
options:
  containers:
    description:
      - The containers' declarations. Names follow the Compose specification where it has one.
      - Sizes need a unit, and use binary multiples (V(1K) is 1024 bytes); V(64M), V(1.5GiB), V(4096B).
      - Every container is confined beyond what can be declared here - an ordinary uid of its own, no capability but
        O(containers[].cap_add), no new privileges, a system call filter, covered and read-only paths of the kernel's.
        Exceptions are the host's to make, in O(policy).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the instance on its host, a DNS label. It becomes the container's name.
        type: str
        required: true
      state:
        description:
          - V(started) runs it, V(stopped) has it without running it, V(absent) removes it.
        type: str
        choices: [started, stopped, absent]
        default: started
      tenant:
        description: Owner of the code. Required unless O(containers[].state=absent).
        type: str
      app:
        description: The program this is an instance of. Defaults to the instance's name.
        type: str
      plan:
        description: One of O(plans); the container's own limits and network override the plan's.
        type: str
      image:
        description:
          - Reference of the image. Required unless O(containers[].state=absent).
          - A container whose reference has come to mean another image is made again.
        type: str
      pull_policy:
        description: When the image is fetched from its registry.
        type: str
        choices: [missing, always, never]
        default: missing
      command:
        description: The program's arguments, in place of the image's.
        type: list
        elements: str
      entrypoint:
        description: The program, in place of the image's.
        type: list
        elements: str
      environment:
        description:
          - Variables of the program. Whoever may read the engine's listings reads them; they are no place for secrets.
          - A diff shows that a value changed, never the value.
        type: dict
      working_dir:
        description: Directory in which the program starts, in place of the image's.
        type: str
      hostname:
        description: Host name inside. Defaults to the instance's name.
        type: str
      user:
        description:
          - The uid, at least 1000, in place of one from O(uid_range). No two instances have the same.
          - V(0) and V(root) are refused unless O(policy) names C(root) for it. Root inside has no capability, no
            C(cap_add), a read-only root file system and no C(nproc), which would not bind it.
        type: raw
      ports:
        description:
          - Published ports - V([ADDRESS:]PUBLISHED:TARGET[/tcp|udp]), or a mapping of C(target), C(published),
            C(host_ip) and C(protocol). The address is V(127.0.0.1) unless one is given.
        type: list
        elements: raw
      volumes:
        description:
          - Directories that outlive the container - a path inside, or a mapping of C(target) and C(read_only).
          - They lie in the instance's own storage, which O(containers[].disk_limit) bounds as a whole.
          - Of the host's files only the engine's socket can be mounted, read-only, as a mapping of C(type=bind),
            C(source) and C(target), and only where O(policy) names C(engine-socket).
        type: list
        elements: raw
      read_only:
        description: Whether the root file system is read-only. A writable one needs O(containers[].storage_opt).
        type: bool
        default: true
      cap_add:
        description: Capabilities that the program's bounding set keeps, with or without C(CAP_).
        type: list
        elements: str
      apparmor_profile:
        description:
          - The profile of AppArmor that the container runs under, V(bailey-tenant) unless given. V(bailey-static)
            executes nothing but the image's programs. It has to be loaded in enforce mode; C(unconfined) is refused.
          - On a host whose O(lsm) is V(none) there is none, and naming one is refused.
        type: str
      network_mode:
        description:
          - V(bridge) connects the container to the engine's bridge, V(none) to nothing. Any other is refused.
        type: str
        default: bridge
      devices:
        description:
          - Character devices of the host, by their paths, to be read from and written to - V(/dev/kvm), V(/dev/hwrng),
            C(/dev/dri/renderDNUMBER), C(/dev/ttyUSBNUMBER), C(/dev/ttyACMNUMBER) or C(/dev/videoNUMBER). Each only
            where O(policy) names it.
          - Where a device's group may use it and others may not, the instance gets that group.
        type: list
        elements: str
      exceptions:
        description:
          - What of this declaration O(policy) has to allow. It follows from the other fields and need not be given;
            where it is, it has to be exactly that.
        type: list
        elements: str
      privileged:
        description: V(false), as it always is. Compose's other value is refused, whatever O(policy) says.
        type: bool
        default: false
      pid:
        description: V(private), as it always is. Any other is refused, whatever O(policy) says.
        type: raw
      ipc:
        description: V(private), as it always is. Any other is refused, whatever O(policy) says.
        type: raw
      uts:
        description: V(private), as it always is. Any other is refused, whatever O(policy) says.
        type: raw
      userns_mode:
        description: V(private), the engine's own setting. Any other is refused, whatever O(policy) says.
        type: raw
      security_opt:
        description: V(no-new-privileges:true), as it always is. Any other is refused, whatever O(policy) says.
        type: list
        elements: str
      restart:
        description: When the agent starts it again - V(no), V(always), V(unless-stopped), V(on-failure[:TIMES]).
        type: str
        default: unless-stopped
      runtime:
        description: OCI runtime, of those that the engine offers. Defaults to the engine's default.
        type: str
      stop_signal:
        description: Signal that asks the program to end, in place of the image's.
        type: str
      stop_grace_period:
        description: How long the program has to end before it is killed; V(10s), V(1m30s), at most V(10m).
        type: str
        default: 10s
      healthcheck:
        description:
          - How the agent asks whether the program is well, once its gate has opened. One of C(test), a command that
            is run inside (a line for the shell, or a list that begins with C(CMD) or C(CMD-SHELL)); C(tcp), a port
            of the container that takes connections; and C(http), a mapping of C(port), C(path) and C(status), any
            from 200 to 399 where no C(status) is given.
          - C(interval) and C(timeout), V(30s) where not given; C(retries), V(3), failures in a row that make it
            unhealthy; C(start_period), V(0s), during which none counts.
          - C(action) is V(restart), which stops and starts it then, or V(report).
        type: dict
      network:
        description:
          - What the network carries for it, and with whom it talks. All of it changes on a living container. Not with
            O(containers[].network_mode=none). Keys that are not given here are the plan's; C(rules) take the place of
            all of the plan's.
          - C(ingress) and C(egress), bits a second into the container and out of it, with a unit of C(kbit), C(Mbit)
            or C(Gbit), decimal - from V(8kbit) to V(100Gbit), or V(unlimited), which stands where nothing is given.
          - C(new_connections), how many it may open a second, and C(connections), how many it may have open at a time,
            both from 1 to 1000000; the host's settings where not given.
          - C(same_tenant), V(false) where not given - whether it and all other instances of its tenant that say so
            reach each other.
          - C(rules), a list of up to 256 mappings. For a new connection the first that matches counts; answers pass by
            themselves. What no rule matches meets the default - out to the internet, and to the host's resolvers;
            not to private networks, mail's ports, other containers or the host; in to published ports.
          - Each rule has C(action), V(allow) or V(deny); C(direction), V(egress), which stands where nothing is given,
            or V(ingress); exactly one of C(cidr), C(app) and C(host); C(protocol), V(any), which stands where nothing
            is given, V(tcp), V(udp) or V(icmp); and with V(tcp) or V(udp) C(ports), a list of up to 64 destination
            ports and ranges such as V(8000-8100), all of them where not given.
          - C(cidr) is an IPv4 network or address outside the host and its containers. V(169.254.0.0/16), where clouds
            hand out credentials, is never opened, and a rule that would is refused.
          - C(app) is an app that is declared for the host, by name for one of its own tenant, as C(TENANT/APP) for
            another's. Both sides have to agree - the one's V(egress) and the other's V(ingress).
          - C(host), V(true), is a service of the host itself, with V(egress) only.
        type: dict
      mem_limit:
        description: Memory, as a size that is a multiple of V(4K). Required, here or in the plan.
        type: raw
      memswap_limit:
        description: Memory and swap together, as a size. Defaults to O(containers[].mem_limit), that is, no swap.
        type: raw
      mem_reservation:
        description: Memory that is left to it when the host runs short, as a size.
        type: raw
      cpus:
        description: Processors it may use, such as V(0.5). Required, here or in the plan.
        type: raw
      cpu_shares:
        description: Its weight against others when processors are short, from 2 to 262144; 1024 where not given.
        type: raw
      cpuset:
        description: Processors it may run on, such as V(0-1).
        type: raw
      pids_limit:
        description: Processes and threads together. Required, here or in the plan.
        type: raw
      disk_limit:
        description:
          - What all its volumes together may hold, as a size, or V(unlimited). Required with volumes.
          - Refused on a host whose storage has no quotas.
        type: raw
      blkio_config:
        description:
          - Disk I/O on every device under a writable volume - C(device_read_bps) and C(device_write_bps) as sizes
            a second, C(device_read_iops) and C(device_write_iops) as operations a second.
        type: dict
      io_scope:
        description:
          - What O(containers[].blkio_config) has to bind. On cgroup v1 the kernel binds direct I/O only, so that
            V(all), which stands where nothing is given, is refused there; V(direct) says that this is known.
        type: str
        choices: [all, direct]
      shm_size:
        description: Size of C(/dev/shm), counted in O(containers[].mem_limit); V(16M) where not given.
        type: raw
      tmpfs:
        description:
          - File systems in memory, in Compose's short form with a size, counted in O(containers[].mem_limit).
          - Options are C(size), C(mode) and C(exec). V(/tmp:size=16M) where not given.
        type: list
        elements: str
      logging:
        description:
          - C(options) with C(max-size), a size, and C(max-file), a count; V(10M) and 2 where not given.
        type: dict
      ulimits:
        description:
          - Resource limits of each process, by the names C(core), C(cpu), C(data), C(fsize), C(locks), C(memlock),
            C(msgqueue), C(nice), C(nofile), C(nproc), C(rss), C(rtprio), C(rttime), C(sigpending), C(stack) - a
            number, V(unlimited), or a mapping of C(soft) and C(hard). Those that count bytes accept sizes.
        type: dict
      storage_opt:
        description: C(size) of the container's own writable layer, where the root is not read-only.
        type: dict
"""
