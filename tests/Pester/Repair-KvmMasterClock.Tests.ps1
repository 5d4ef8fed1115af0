Describe 'Repair-KvmMasterClock without VMs' {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
    }

    It 'refuses <Value> as the largest advance' -ForEach @(
        @{ Value = -1; Id = 'ParameterArgumentValidationError' }
        @{ Value = 'NaN'; Id = 'ParameterArgumentValidationError' }
        @{ Value = 'much'; Id = 'CannotConvertArgument' }
    ) {
        { Repair-KvmMasterClock nobody -MaximumAdvanceSeconds $Value } | Should-Throw -FullyQualifiedErrorId "$Id*"
    }

    It 'reports a VM that is not there' {
        $observed = Invoke-Observed { Repair-KvmMasterClock nobody }
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound nobody 'nobody' 'Get-KvmVM'
    }
}

Describe 'Repair-KvmMasterClock' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        $script:all = 'TscStable, Realtime, HostTsc'

        # Lets the vCPUs' offsets differ by so many ticks, has the guest run, and returns what it read.
        function Initialize-Divergence([string] $Name, [long[]] $Tick) {
            $offset = (Get-KernelOffset $Name)[0]
            for ($id = 0; $id -lt $Tick.Count; $id++) {
                Set-KvmVcpuTscOffset $Name -VcpuId $id -OffsetTicks ($offset + $Tick[$id]) -Force
            }
            Test-KvmVcpuTscOffset -Name $Name
        }
    }

    BeforeEach {
        Clear-VM
        $null = 'web01', 'web02' | New-KvmVM -VcpuCount 2
        Set-KvmVcpuTscOffset web0* -1000000
    }

    AfterAll {
        Clear-VM
    }

    It 'gives all vCPUs the largest offset, and has the master clock on again before and after the guest runs' {
        $before = Initialize-Divergence web01 0, 50000
        $clock = Get-KvmClock web01
        "$($clock.Flags)" | Should-Be 'None'

        $repair = Repair-KvmMasterClock web01
        Get-KernelOffset web01 | Should-BeCollection -950000, -950000
        $repaired = Get-KvmClock web01
        "$($repaired.Flags)" | Should-Be $all
        $after = Test-KvmVcpuTscOffset -Name web01
        "$((Get-KvmClock web01).Flags)" | Should-Be $all
        $after | Should-All { $_.Passed }
        foreach ($id in 0, 1) {
            $after[$id].ObservedGuestTsc | Should-BeGreaterThan ($before[$id].ObservedGuestTsc + $repair.Vcpus[$id].AdvancedTicks)
        }

        $repair | Should-HaveType ([KvmTsc.Clocks.KvmMasterClockRepair])
        $repair.VMName | Should-Be web01
        $repair.Changed | Should-BeTrue
        "$($repair.OldFlags), then $($repair.NewFlags)" | Should-Be "None, then $all"
        $repair.OffsetTicks | Should-Be -950000
        $repair.Vcpus.VcpuId | Should-BeCollection 0, 1
        $repair.Vcpus.OldOffsetTicks | Should-BeCollection -1000000, -950000
        $repair.Vcpus.NewOffsetTicks | Should-BeCollection -950000, -950000
        $repair.Vcpus.AdvancedTicks | Should-BeCollection 50000, 0
        $repair.Vcpus[0].AdvancedNanoseconds | Should-Be (50000 * 1e6 / (Get-KvmHost).TscKHz)
        $repair.OldClockNanoseconds | Should-BeGreaterThan $clock.ClockNanoseconds
        $repair.NewClockNanoseconds | Should-BeGreaterThanOrEqual $repair.OldClockNanoseconds
        $repaired.ClockNanoseconds | Should-BeGreaterThan $repair.NewClockNanoseconds
        $repair.ClockJumpNanoseconds | Should-BeLessThan 0
        $repair.StoppedMicroseconds | Should-Be 0
    }

    It 'leaves a VM alone that needs no repair, also with -WhatIf, and repairs it with -Force' {
        $repair = Repair-KvmMasterClock web01
        $repair.Changed | Should-BeFalse
        $repair.Vcpus.AdvancedTicks | Should-BeCollection 0, 0
        $repair.ClockJumpNanoseconds | Should-Be 0
        $observed = Invoke-Interactive 'Repair-KvmMasterClock web01 -WhatIf; Repair-KvmMasterClock web01 -Force -WhatIf'
        $observed.Output.Changed | Should-BeCollection @($false)
        $observed.Lines | Should-BeCollection -Count 1
        $observed.Lines[0] | Should-MatchString 'advance no vCPU'
        (Repair-KvmMasterClock web01 -Force).Changed | Should-BeTrue
        Get-KernelOffset web01 | Should-BeCollection -1000000, -1000000
    }

    It 'repairs a VM whose odd offset was written back, without an advance' {
        $null = Initialize-Divergence web01 0, 5
        Set-KvmVcpuTscOffset web02 -VcpuId 1 -OffsetTicks -7 -Force
        $null = Test-KvmVcpuTscOffset -Name web02
        $repairs = Get-KvmVM web0* | Repair-KvmMasterClock
        $repairs.Changed | Should-BeCollection $true, $true
        $repairs.AdvancedTicks | Should-BeCollection 5, 999993
        "$((Get-KvmClock web01).Flags)" | Should-Be $all
    }

    It 'refuses to advance a guest by more than is allowed, with -WhatIf too, and does it when that is allowed' {
        $tick = 2L * 1000 * (Get-KvmHost).TscKHz
        $null = Initialize-Divergence web01 0, $tick
        $observed = Invoke-Observed { Repair-KvmMasterClock web01, web02; Repair-KvmMasterClock web01 -WhatIf }
        $observed.Output.VMName | Should-BeCollection @('web02')
        $observed.Errors | Should-BeCollection -Count 2
        foreach ($record in $observed.Errors) {
            Assert-KvmError $record AdvanceTooLarge InvalidOperation 'web01 vCPU 0' "advanced by $tick ticks, 2 s; 1 s are allowed" '-MaximumAdvanceSeconds'
        }
        Get-KernelOffset web01 | Should-BeCollection -1000000, ($tick - 1000000)
        (Repair-KvmMasterClock web01 -MaximumAdvanceSeconds 2.5).AdvancedTicks | Should-Be $tick
        Get-KernelOffset web01 | Should-BeCollection ($tick - 1000000), ($tick - 1000000)
    }

    It 'refuses vCPUs of different frequencies, even with -Force' {
        Set-KvmTscFrequency web01 -VcpuId 1 -TscKHz ((Get-KvmHost).TscKHz + 100)
        $observed = Invoke-Observed { Repair-KvmMasterClock web01 -Force }
        Assert-KvmError $observed.Errors[0] UnequalFrequencies InvalidOperation web01 "$((Get-KvmHost).TscKHz), $((Get-KvmHost).TscKHz + 100) kHz" 'Set-KvmTscFrequency'
    }

    It 'says with -WhatIf by how much it would advance, and changes nothing' {
        $null = Initialize-Divergence web01 0, 50000
        $observed = Invoke-Interactive 'Repair-KvmMasterClock web01 -WhatIf'
        $observed.Output | Should-BeCollection @()
        $observed.Lines | Should-BeCollection -Count 1
        $observed.Lines[0] | Should-MatchString "from -1000000, -950000 to -950000 ticks: advance vCPU 0 by 50000 ticks \(\d+ ns\), .* on target `"web01 \(process $PID\)"
        Get-KernelOffset web01 | Should-BeCollection -1000000, -950000
        "$((Get-KvmClock web01).Flags)" | Should-Be 'None'
    }

    It 'asks with -Confirm, and the offsets are <Expected> when the answer is <Answer>' -ForEach @(
        @{ Answer = 'No'; Expected = -1000000, -950000 }
        @{ Answer = 'Yes'; Expected = -950000, -950000 }
    ) {
        $null = Initialize-Divergence web01 0, 50000
        $observed = Invoke-Interactive 'Repair-KvmMasterClock web01 -Confirm' $Answer
        $observed.Questions | Should-BeCollection -Count 1
        Get-KernelOffset web01 | Should-BeCollection $Expected
    }
}
