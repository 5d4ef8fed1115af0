Describe 'Restore-KvmTscState' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:kHz = (Get-KvmHost).TscKHz
        $script:day = [ulong] 86400000000000
        $null = New-KvmVM web01 -VcpuCount 2
        Set-KvmVcpuTscOffset web01 1000000000000000
        Set-KvmClock web01 $day

        # A state with some values changed, as if it came from elsewhere.
        function Get-ChangedState([hashtable] $Values = @{}, [hashtable] $HostValues = @{}, [hashtable] $VcpuValues = @{}) {
            $state = Copy-Deserialized (Save-KvmTscState web01)
            foreach ($name in $Values.Keys) { $state.$name = $Values[$name] }
            foreach ($name in $HostValues.Keys) { $state.Host.$name = $HostValues[$name] }
            foreach ($name in $VcpuValues.Keys) { $state.Vcpus[0].$name = $VcpuValues[$name] }
            $state
        }
    }

    BeforeEach {
        $script:destination = New-KvmVM web02 -VcpuCount 2
        Set-KvmVcpuTscOffset web02 -5000
    }

    AfterEach {
        Remove-KvmVM web02, other -ErrorAction Ignore
    }

    AfterAll {
        Clear-VM
    }

    It 'gives the offsets of the state to the tick, and its kvmclock moved on by the time since' {
        $state = Save-KvmTscState web01
        $result = Restore-KvmTscState web02 $state
        Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
        "$($result.Method), $($result.MeasuredBy), $($result.ResidualTicks)" | Should-Be 'Best, HostTsc, 0'
        $result.Vcpus.OldOffsetTicks | Should-BeCollection -5000, -5000
        $result.Vcpus.NewOffsetTicks | Should-BeCollection 1000000000000000, 1000000000000000
        [math]::Abs($result.ClockResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds

        # One TSC counts for both: their clocks at a host TSC differ by the residual, and by what the kernel rounds.
        $clock = Get-KvmClock web02
        $expected = $state.ClockNanoseconds + ($clock.HostTsc - $state.HostTsc) * 1e6 / $kHz
        [math]::Abs($clock.ClockNanoseconds - $expected) | Should-BeLessThanOrEqual (2 * $result.ErrorBoundNanoseconds)
        $clock.ClockNanoseconds | Should-BeGreaterThan $day
    }

    It 'computes them as documented on request, within the bound' {
        $result = Restore-KvmTscState web02 (Save-KvmTscState web01) -Method Documented
        "$($result.Method)" | Should-Be 'Documented'
        Get-KernelOffset web02 | Should-BeCollection $result.Vcpus.NewOffsetTicks
        $result.ResidualTicks | Should-Be ($result.Vcpus[0].NewOffsetTicks - 1000000000000000)
        [math]::Abs($result.ResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
    }

    It 'computes them as documented for a state of another boot, measured by CLOCK_REALTIME' {
        $state = Get-ChangedState @{ HostTsc = 5000000000 } -HostValues @{ BootId = 'b5a7f5c6-0000-4000-8000-000000000000'; MaxErrorMicroseconds = 10 }
        $refused = Invoke-Observed { Restore-KvmTscState web02 $state }
        Assert-KvmError $refused.Errors[0] ClockUnsynchronized InvalidOperation web02 'not synchronised' 'NTP' # nobody keeps the clock of this host
        $result = Restore-KvmTscState web02 $state -Force
        $result.ErrorBoundNanoseconds | Should-Be ([double]::PositiveInfinity)
        "$($result.Method), $($result.MeasuredBy)" | Should-Be 'Best, Realtime'

        # guest TSC at kvmclock zero is the same on both sides
        $clock = Get-KvmClock web02
        $zero = [bigint] $state.HostTsc + 1000000000000000 - [bigint]::Divide([bigint] $state.ClockNanoseconds * $kHz, 1000000)
        $now = [bigint] $clock.HostTsc + (Get-KernelOffset web02)[0] - [bigint]::Divide([bigint] $clock.ClockNanoseconds * $kHz, 1000000)
        [bigint]::Abs($now - $zero) | Should-BeLessThanOrEqual 5000
    }

    It 'takes a state from a file, several states one after the other, and a VM in every form: <Form>' -ForEach @(
        @{ Form = 'name'; VM = { 'web02' } }
        @{ Form = 'object'; VM = { Get-KvmVM web02 } }
        @{ Form = 'object that came back from a job'; VM = { Copy-Deserialized (Get-KvmVM web02) } }
    ) {
        $file = Join-Path $TestDrive "$Form.xml"
        $states = (Save-KvmTscState web01), (Save-KvmTscState web01)
        $states | Export-Clixml $file
        $results = Import-Clixml $file | Restore-KvmTscState -VM (& $VM)
        $results.SourceClockNanoseconds | Should-BeCollection $states.ClockNanoseconds
        $results | Should-All { $_.ResidualTicks -eq 0 -and $_.VMName -eq 'web02' }
        Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
    }

    It 'sets the frequency of the state' {
        $state = Get-ChangedState
        $state.Vcpus | ForEach-Object { $_.TscKHz = $kHz + 100 }
        $result = Restore-KvmTscState web02 $state
        (Get-KvmTscFrequency web02).TscKHz | Should-BeCollection ($kHz + 100), ($kHz + 100)
        $result.Vcpus.NewTscKHz | Should-BeCollection ($kHz + 100), ($kHz + 100)
        $result.Vcpus.OldTscKHz | Should-BeCollection $kHz, $kHz
    }

    It 'restores a VM whose own offsets differ' {
        Set-KvmVcpuTscOffset web02 -VcpuId 1 -OffsetTicks 5 -Force
        $null = Test-KvmVcpuTscOffset -Name web02
        "$((Get-KvmClock web02).Flags)" | Should-Be 'None'
        $result = Restore-KvmTscState web02 (Save-KvmTscState web01)
        $result.ResidualTicks | Should-Be 0
        Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
        $null = Test-KvmVcpuTscOffset -Name web02
        "$((Get-KvmClock web02).Flags)" | Should-Be 'TscStable, Realtime, HostTsc'
    }

    It 'gives vCPUs that were plugged in what all others have, by -Force, and KVM has its master clock on' {
        $null = New-KvmVM other
        Set-KvmVcpuTscOffset other 1000000000000000
        $null = Test-KvmVcpuTscOffset -Name other
        $result = Restore-KvmTscState web02 (Save-KvmTscState other) -Force
        $result.Vcpus.VcpuId | Should-BeCollection 0, 1
        Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
        "$((Get-KvmClock web02).Flags)" | Should-Be 'TscStable, Realtime, HostTsc'
        (Restore-KvmTscState other (Save-KvmTscState web01) -Force).Vcpus.VcpuId | Should-BeCollection @(0)
    }

    Context 'what it refuses: <Name>' -ForEach @(
        @{
            Name = 'a state with another number of vCPUs'; Id = 'VcpuMismatch'; Category = 'InvalidData'; Message = 'state has vCPUs 0, web02 has 0-1'; Action = 'same vCPUs'
            State = { $null = New-KvmVM other; Save-KvmTscState other }
        }
        @{
            Name = 'a state of the future'; Id = 'RealtimeInFuture'; Category = 'InvalidOperation'; Message = 'in the future'; Action = 'Synchronise'
            State = { Get-ChangedState @{ RealtimeNanoseconds = (Save-KvmTscState web01).RealtimeNanoseconds + $day } -HostValues @{ BootId = 'b5a7f5c6-0000-4000-8000-000000000000' } }
        }
        @{
            Name = 'unequal offsets'; Id = 'UnequalOffsets'; Category = 'InvalidOperation'; Message = '2 different TSC offsets'; Action = '-Force'
            State = { Get-ChangedState -VcpuValues @{ OffsetTicks = 5 } }
        }
        @{
            Name = 'a frequency that no host has'; Id = 'FrequencyUnsupported'; Category = 'InvalidArgument'; Message = '4294967295 kHz'; Action = 'frequency|scaling'
            State = { Get-ChangedState -VcpuValues @{ TscKHz = 4294967295 } }
        }
        @{
            Name = 'a state without vCPUs'; Id = 'InvalidValue'; Category = 'InvalidData'; Message = 'no vCPUs'; Action = 'Save-KvmTscState'
            State = { Get-ChangedState @{ Vcpus = @() } }
        }
        @{
            Name = 'a state without host TSC'; Id = 'InvalidValue'; Category = 'InvalidData'; Message = 'no host TSC'; Action = 'Save-KvmTscState'
            State = { Get-ChangedState @{ HostTsc = 0 } }
        }
        @{
            Name = 'a state that names a vCPU twice'; Id = 'InvalidValue'; Category = 'InvalidData'; Message = 'twice'; Action = 'Save-KvmTscState'
            State = { Get-ChangedState -VcpuValues @{ VcpuId = 1 } }
        }
        @{
            Name = 'a guest that would go back in time'; Id = 'GuestTscBackwards|ClockBackwards'; Category = 'InvalidOperation'; Message = 'would go back by'; Action = '-Force'
            State = { $null = Test-KvmVcpuTscOffset -Name web02; Get-ChangedState @{ ClockNanoseconds = 0 } }
        }
    ) {
        It 'with an error, and nothing changes; with -WhatIf too; and the next state is restored' {
            $wrong = & $State
            $observed = Invoke-Observed { Restore-KvmTscState web02 $wrong }
            $observed.Output | Should-BeCollection @()
            $observed.Errors | Should-BeCollection -Count 1
            $observed.Errors[0].FullyQualifiedErrorId | Should-MatchString "^($Id),"
            Assert-KvmError $observed.Errors[0] ($observed.Errors[0].FullyQualifiedErrorId -replace ',.*') $Category ($observed.Errors[0].TargetObject) $Message $Action
            "$($observed.Errors[0].TargetObject)" | Should-MatchString '^web02'
            Get-KernelOffset web02 | Should-BeCollection -5000, -5000
            (Get-KvmTscFrequency web02).TscKHz | Should-BeCollection $kHz, $kHz
            (Get-KvmClock web02).ClockNanoseconds | Should-BeLessThan $day

            $preview = Invoke-Observed { Restore-KvmTscState web02 $wrong -WhatIf }
            $preview.Errors.FullyQualifiedErrorId | Should-BeCollection @($observed.Errors[0].FullyQualifiedErrorId)

            $both = Invoke-Observed { $wrong, (Save-KvmTscState web01) | Restore-KvmTscState web02 }
            $both.Errors | Should-BeCollection -Count 1
            $both.Output | Should-BeCollection -Count 1
            Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
        }
    }

    It 'takes a guest that has run back in time with -Force' {
        Set-KvmVcpuTscOffset web02 2000000000000000
        $null = Test-KvmVcpuTscOffset -Name web02
        $state = Save-KvmTscState web01
        Assert-KvmError (Invoke-Observed { Restore-KvmTscState web02 $state }).Errors[0] GuestTscBackwards InvalidOperation 'web02 vCPU 0' 'would go back' '-Force'
        $null = Restore-KvmTscState web02 $state -Force
        Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
    }

    It 'takes unequal offsets with -Force, each as it is' {
        $null = Restore-KvmTscState web02 (Get-ChangedState -VcpuValues @{ OffsetTicks = 5 }) -Force
        Get-KernelOffset web02 | Should-BeCollection 5, 1000000000000000
    }

    It 'reports a VM that does not exist' {
        $observed = Invoke-Observed { Restore-KvmTscState nobody (Save-KvmTscState web01) }
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound nobody 'nobody' 'Get-KvmVM'
    }

    It 'refuses what is no state' {
        { Restore-KvmTscState web02 'web01' } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentTransformationError*'
        { Restore-KvmTscState web02 ([pscustomobject] @{ Name = 'web01' }) } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentTransformationError*'
    }

    It 'says with -WhatIf what would become of clock and offsets, and changes nothing' {
        $observed = Invoke-Interactive 'Restore-KvmTscState web02 (Save-KvmTscState web01) -WhatIf'
        $observed.Output | Should-BeCollection @()
        $observed.Lines[0] | Should-MatchString ('Restore the clocks of web01: kvmclock from \d+\.\d{9} s to 86[4-9]\d\d\.\d{9} s, ' +
            'TSC offset of 2 vCPU\(s\) from -5000 to 1000000000000000 ticks.*" on target "web02 \(process')
        Get-KernelOffset web02 | Should-BeCollection -5000, -5000
        (Get-KvmClock web02).ClockNanoseconds | Should-BeLessThan $day
    }

    It 'asks with -Confirm, and the offsets are <Expected> when the answer is <Answer>' -ForEach @(
        @{ Answer = 'No'; Expected = -5000 }
        @{ Answer = 'Yes'; Expected = 1000000000000000 }
    ) {
        $observed = Invoke-Interactive 'Restore-KvmTscState web02 (Save-KvmTscState web01) -Confirm' $Answer
        $observed.Questions | Should-BeCollection -Count 1
        Get-KernelOffset web02 | Should-BeCollection $Expected, $Expected
    }
}
