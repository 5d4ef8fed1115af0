# The rows of the benchmark, in their order. Place is Host, this machine, or Kvm, a KVM host. Most is the goal: of the figure, or times the floor's or a rival's, as Of says; a row
# without is shown beside the others. Reason is why it is over, where it is.
@{
    Rows = @(
        @{ Name = 'import'; Place = 'Host'; What = 'Import-Module, over bare pwsh'; Unit = 'ms'; Most = 50; Of = 'Figure'; Floor = 'bare pwsh'; Reason = 'of the processor time 10 ms are any manifest, 15 its formats and types, the rest what PowerShell makes of an assembly with 22 cmdlets; a busy machine takes longer for all' }
        @{ Name = 'host'; Place = 'Host'; What = 'first Get-KvmHost, over the import'; Unit = 'ms'; Most = 30; Of = 'Figure'; Floor = 'pwsh with the module'; Reason = 'it opens /dev/kvm and a dozen files of sysfs and procfs once' }
        @{ Name = 'import-1000'; Place = 'Host'; What = 'Import-KvmTscState of 1,000 documents'; Unit = 'ms'; Most = 1000; Of = 'Figure'; Floor = 'read and parsed as JSON'; Reason = 'half is reading, checking and digesting, half what PowerShell does to resolve a path; a busy machine takes longer for all' }
        @{ Name = 'fleet-200'; Place = 'Host'; What = 'preflight of 200 pairs, simulated hosts'; Unit = 'ms'; Most = 2000; Of = 'Figure' }
        @{ Name = 'set-255'; Place = 'Kvm'; What = 'Get | Set-KvmVcpuTscOffset, a vCPU of 255 in process, over C'; Unit = 'us'; Most = 20; Of = 'Figure'; Floor = 'the ioctls in C'; Reason = 'two objects and their binding a vCPU, by an emulated CPU' }
        @{ Name = 'clock-64'; Place = 'Kvm'; What = 'clocks of 64 vCPUs read, VM stopped'; Unit = 'ms'; Most = 0.333; Of = 'one ptrace stop per ioctl'; Floor = 'the ioctls in the owner'; Reason = 'stopping 64 threads takes as long whoever does it' }
        @{ Name = 'clock-64-ioctls'; Place = 'Kvm'; What = 'of these, the ioctls'; Unit = 'ms'; Most = 3; Of = 'Floor'; Floor = 'the ioctls in the owner'; Reason = 'two switches between tracer and carrier, and the emulator translates the payload anew each time' }
        @{ Name = 'hold-2'; Place = 'Kvm'; What = 'hold at resume, 2 vCPUs'; Unit = 'ms'; Most = 3; Of = 'Floor'; Floor = 'the ioctls in the owner, and its threads going on'; Reason = 'most of it is one vCPU thread on its way to the payload and back: ptrace stops, and code that the emulator translates anew each time' }
        @{ Name = 'hold-2-ms'; Place = 'Kvm'; What = 'hold at resume, 2 vCPUs, 10 ms'; Unit = 'ms'; Most = 10; Of = 'Figure'; Reason = 'the same' }
        @{ Name = 'hold-64'; Place = 'Kvm'; What = 'hold at resume, 64 vCPUs'; Unit = 'ms'; Most = 3; Of = 'Floor'; Floor = 'the ioctls in the owner, and its threads going on'; Reason = 'its vCPUs come one after another: 64 threads on one CPU, each through several ptrace stops' }
        @{ Name = 'list-1'; Place = 'Kvm'; What = 'Get-KvmVM, 1 VM'; Unit = 'ms'; Floor = 'all links of /proc/*/fd in C' }
        @{ Name = 'list-50'; Place = 'Kvm'; What = 'Get-KvmVM, 50 VMs'; Unit = 'ms'; Floor = 'all links of /proc/*/fd in C' }
        @{ Name = 'list-200'; Place = 'Kvm'; What = 'Get-KvmVM, 200 VMs'; Unit = 'ms'; Most = 3; Of = 'Floor'; Floor = 'all links of /proc/*/fd in C'; Reason = 'of each VM it also asks its start, parent, command line, threads, debugfs directory, capabilities and seccomp: 70 system calls to 12 in C, by .NET on an emulated CPU' }
        @{ Name = 'list-1000'; Place = 'Kvm'; What = 'Get-KvmVM, 1,000 VMs'; Unit = 'ms'; Floor = 'all links of /proc/*/fd in C' }
        @{ Name = 'list-growth'; Place = 'Kvm'; What = 'a VM more, from 200 to 1,000'; Unit = 'ms'; Most = 1.2; Of = 'Floor'; Floor = 'from 1 to 200'; Reason = 'few and many are measured minutes apart, and the machine became busier; GrowthTests count system calls and bytes instead' }
        @{ Name = 'list-memory'; Place = 'Kvm'; What = 'memory of a VM more, from 200 to 1,000'; Unit = 'KiB'; Most = 1.1; Of = 'Floor'; Floor = 'from 1 to 200' }
        @{ Name = 'list-first'; Place = 'Kvm'; What = 'first of 200 VMs'; Unit = 'ms'; Most = 0.1; Of = 'Floor'; Floor = 'all of them'; Reason = 'all are found before the first is written, since names that several bear are told apart' }
        @{ Name = 'offsets-200'; Place = 'Kvm'; What = 'offsets of 200 VMs, no stop'; Unit = 'ms'; Most = 5; Of = 'Floor'; Floor = 'those files in C'; Reason = 'each VM is looked up by its process again, so that no other is read in its place: most of what listing it takes' }
        @{ Name = 'watch-idle'; Place = 'Kvm'; What = 'Watch-KvmClock, 200 idle VMs, of one CPU'; Unit = '%'; Most = 0.2; Of = 'Figure'; Reason = 'a VM that was just found is looked at five times in three seconds, in case it was about to be paused; after that the watch sleeps' }
        @{ Name = 'watch-ended'; Place = 'Kvm'; What = 'a VM ends, to the object, after its parent saw it'; Unit = 'ms'; Most = 2; Of = 'Figure'; Floor = 'killed, to when its parent saw it'; Reason = 'the watch and the parent share the one emulated CPU' }
        @{ Name = 'watch-set-back'; Place = 'Kvm'; What = 'kvmclock is set back, to the object'; Unit = 'ms'; Most = 2; Of = 'Figure'; Reason = 'its clocks are read before anything is told, by an attach, which takes tens of milliseconds on an emulated CPU' }
    )
}
