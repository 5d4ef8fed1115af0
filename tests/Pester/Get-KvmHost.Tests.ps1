# A kind of KVM for adapted guests, which some cloud machines have: it says that it has what it ignores.
if (Test-Path /sys/module/kvm_pvm) {
    Describe 'Get-KvmHost on kvm_pvm' {
        BeforeAll {
            . "$PSScriptRoot/Common.ps1"
        }

        It 'tells that the clocks cannot be migrated' {
            $kvmHost = Get-KvmHost
            $kvmHost.HasTscOffset | Should-BeFalse
            $kvmHost.CanMigrateTsc | Should-BeFalse
        }

        It 'has a self-test that says why it cannot be run' {
            (Test-KvmVcpuTscOffset -VcpuCount 1).Reason | Should-All { $_ -like 'Unsupported: *kvm_pvm*' }
        }
    }
}

Describe 'Get-KvmHost' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        $script:kvmHost = Get-KvmHost
    }

    It 'names host, boot and kernel' {
        $kvmHost.MachineName | Should-Be ([IO.File]::ReadAllText('/proc/sys/kernel/hostname').Trim())
        $kvmHost.BootId | Should-Be ([IO.File]::ReadAllText('/proc/sys/kernel/random/boot_id').Trim())
        $kvmHost.KernelRelease | Should-Be (uname -r)
        Test-Path "/sys/module/$($kvmHost.KvmModule)" | Should-BeTrue
    }

    It 'tells that the clocks can be migrated' {
        $kvmHost.CanMigrateTsc | Should-BeTrue
        $kvmHost.HasTscOffset | Should-BeTrue
        "$($kvmHost.ClockFlags)" | Should-Be 'TscStable, Realtime, HostTsc'
        $kvmHost.ClockSource | Should-Be 'tsc'
        $kvmHost.ApiVersion | Should-Be 12
    }

    It 'tells the frequency that a new VM has' {
        Clear-VM
        (New-KvmVM web01 | Get-KvmTscFrequency).TscKHz | Should-Be $kvmHost.TscKHz
        Clear-VM
    }

    It 'tells what the CPU can do' {
        $flags = (Select-String '^flags\s*:(.*)' /proc/cpuinfo | Select-Object -First 1).Matches.Groups[1].Value.Trim() -split ' '
        $kvmHost.TscFlags | Should-All { $_ -in $flags }
        $kvmHost.TscFlags -contains 'tsc_scale' | Should-Be ($flags -contains 'tsc_scale')
        $kvmHost.HasTscScaling | Should-Be ($kvmHost.TscScalingFractionBits -ne 0)
        $kvmHost.TscTolerancePpm | Should-Be ([int] [IO.File]::ReadAllText('/sys/module/kvm/parameters/tsc_tolerance_ppm'))
    }

    It 'tells how well the clock is synchronised, and that debugfs can be read' {
        $kvmHost.MaxErrorMicroseconds | Should-BeGreaterThan 0
        $kvmHost.ClockSynchronized | Should-HaveType ([bool])
        $kvmHost.CanReadDebugfs | Should-BeTrue
    }
}
