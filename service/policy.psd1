# What Watch-KvmClock does about which VMs: Get-Help about_KvmTsc_Watch. The first entry that fits a VM's name counts. A VM that none fits is treated as the
# command line says: by kvmtsc-watch.service, it is given its time back.
@{
    VMs = @(
        # Databases: a jump of more than a minute is for a person to decide.
        @{ Name = 'db*'; Action = 'Correct'; MaximumDowntime = 60 }

        # Desktops that are suspended over night wake up as if no time had passed.
        @{ Name = 'desk*'; Action = 'Correct'; Downtime = 'Exclude' }

        # Told in the journal and in the counts, but left as their VMM left them.
        @{ Name = 'test-*'; Action = 'Report' }

        # Not looked at.
        @{ Name = 'ci-*'; Action = 'Ignore' }
    )
}
