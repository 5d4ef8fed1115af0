Describe 'Save-KvmTscState' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:kvmHost = Get-KvmHost
        $script:vm = New-KvmVM web01 -VcpuCount 3
        $null = New-KvmVM web02
        Set-KvmVcpuTscOffset web01 -123456789
    }

    AfterAll {
        Clear-VM
    }

    It 'captures what the single commands read' {
        $before = Get-KvmClock web01
        $state = Save-KvmTscState web01
        $after = Get-KvmClock web01
        foreach ($name in 'ClockNanoseconds', 'RealtimeNanoseconds', 'HostTsc') {
            $state.$name | Should-BeGreaterThan $before.$name
            $state.$name | Should-BeLessThan $after.$name
        }
        $state.Vcpus.VcpuId | Should-BeCollection 0, 1, 2
        $state.Vcpus.OffsetTicks | Should-BeCollection (Get-KernelOffset web01)
        $state.Vcpus.TscKHz | Should-BeCollection (Get-KvmTscFrequency web01).TscKHz
        $state.Vcpus.ScalingRatio | Should-BeCollection (Get-KvmTscFrequency web01).ScalingRatio
    }

    It 'tells VM, host and boot' {
        $state = Save-KvmTscState web01
        $state.VMName, $state.VMId, $state.ProcessId | Should-BeCollection web01, $vm.VMId, $PID
        $state.Host.BootId, $state.Host.MachineName, $state.Host.TscKHz | Should-BeCollection $kvmHost.BootId, $kvmHost.MachineName, $kvmHost.TscKHz
        $state.Captured | Should-Be ([datetime]::UnixEpoch.AddTicks([math]::Floor([decimal] $state.RealtimeNanoseconds / 100)))
    }

    It 'changes nothing' {
        $null = Save-KvmTscState web01
        Get-KernelOffset web01 | Should-BeCollection -123456789, -123456789, -123456789
        "$((Get-KvmClock web01).Flags)" | Should-Be 'TscStable, Realtime, HostTsc'
    }

    It 'comes back from a file with all that it had' {
        $state = Save-KvmTscState web01
        $file = Join-Path $TestDrive state.xml
        Export-Clixml $file -InputObject $state
        $copy = Import-Clixml $file
        $copy.ClockNanoseconds | Should-Be $state.ClockNanoseconds
        $copy.Vcpus.OffsetTicks | Should-BeCollection $state.Vcpus.OffsetTicks
        $copy.Vcpus.TscKHz | Should-BeCollection $state.Vcpus.TscKHz
        $copy.Host.BootId | Should-Be $state.Host.BootId
    }

    It 'refuses vCPUs whose offsets differ, with and without -Force once they have run, and captures the others' {
        Set-KvmVcpuTscOffset web01 -VcpuId 1 -OffsetTicks 5 -Force
        $observed = Invoke-Observed { Save-KvmTscState web0* }
        $observed.Output.VMName | Should-BeCollection @('web02')
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] UnequalOffsets InvalidOperation web01 'different TSC offsets' 'Repair-KvmMasterClock'

        $null = Test-KvmVcpuTscOffset -Name web01
        $observed = Invoke-Observed { Save-KvmTscState web01 -Force }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] UnequalOffsets InvalidOperation web01 'master clock is off' 'Repair-KvmMasterClock'
        Set-KvmVcpuTscOffset web01 5
    }
}
