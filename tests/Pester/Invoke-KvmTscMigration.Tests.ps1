Describe 'Invoke-KvmTscMigration' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:kHz = (Get-KvmHost).TscKHz
        $script:day = [ulong] 86400000000000
    }

    BeforeEach {
        # The source is far ahead of the destination, so that nothing is right by chance.
        $null = 'web01', 'web02' | New-KvmVM -VcpuCount 2
        Set-KvmVcpuTscOffset web01 1000000000000000
        Set-KvmClock web01 $day
        Set-KvmVcpuTscOffset web02 -5000
    }

    AfterEach {
        Clear-VM
    }

    It 'gives the destination the source''s offsets to the tick' {
        $result = Invoke-KvmTscMigration web01 web02 -Confirm:$false
        Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
        $result.ResidualTicks | Should-Be 0
        $result.Vcpus.OldOffsetTicks | Should-BeCollection -5000, -5000
        $result.Vcpus.NewOffsetTicks | Should-BeCollection (Get-KernelOffset web02)
        $result.Vcpus.ResidualTicks | Should-BeCollection 0, 0
        "$($result.Method), $($result.MeasuredBy), $($result.SourceVMName), $($result.VMName), $($result.ProcessId)" | Should-Be "Best, HostTsc, web01, web02, $PID"
    }

    It 'gives it kvmclock within the bound' {
        $result = Invoke-KvmTscMigration web01 web02 -Confirm:$false
        [math]::Abs($result.ClockResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
        $result.NewClockNanoseconds | Should-Be ($result.SourceClockNanoseconds + $result.DowntimeNanoseconds + $result.ClockResidualNanoseconds)
        $result.OldClockNanoseconds | Should-BeLessThan $day
        $result.SourceClockNanoseconds | Should-BeGreaterThan $day

        # Both kvmclocks, one read after the other, at the host TSC of their readings.
        $source = Get-KvmClock web01
        $destination = Get-KvmClock web02
        $apart = [double] ($destination.ClockNanoseconds - $source.ClockNanoseconds) - ($destination.HostTsc - $source.HostTsc) * 1e6 / $kHz
        [math]::Abs($apart) | Should-BeLessThanOrEqual (2 * $result.ErrorBoundNanoseconds)
    }

    It 'is right for the guest by the method <Method>: what it reads lies between what the source''s guest reads before and after' -ForEach @(
        @{ Method = 'Best' }
        @{ Method = 'Documented' }
    ) {
        $before = Test-KvmVcpuTscOffset -Name web01
        $result = Invoke-KvmTscMigration web01 web02 -Method $Method -Confirm:$false
        $destination = Test-KvmVcpuTscOffset -Name web02
        $after = Test-KvmVcpuTscOffset -Name web01
        $bound = [long] ($Method -eq 'Best' ? 0 : $result.ErrorBoundNanoseconds * $kHz / 1e6)
        foreach ($vcpu in 0, 1) {
            $destination[$vcpu].ObservedGuestTsc | Should-BeGreaterThan ($before[$vcpu].ObservedGuestTsc - $bound)
            $destination[$vcpu].ObservedGuestTsc | Should-BeLessThan ($after[$vcpu].ObservedGuestTsc + $bound)
        }
        $before + $destination + $after | Should-All { $_.Passed }
    }

    It 'misses by no more than the bound by the documented method' {
        $result = Invoke-KvmTscMigration web01 web02 -Method Documented -Confirm:$false
        "$($result.Method)" | Should-Be 'Documented'
        [math]::Abs($result.ResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
        $result.ResidualTicks | Should-Be ((Get-KernelOffset web02)[0] - 1000000000000000)
        [math]::Abs($result.ResidualNanoseconds - $result.ResidualTicks * 1e6 / $kHz) | Should-BeLessThan 1
    }

    It 'leaves the source as it is' {
        $null = Invoke-KvmTscMigration web01 web02 -Confirm:$false
        Get-KernelOffset web01 | Should-BeCollection 1000000000000000, 1000000000000000
        (Get-KvmTscFrequency web01).TscKHz | Should-BeCollection $kHz, $kHz
        $clock = (Get-KvmClock web01).ClockNanoseconds
        $clock | Should-BeGreaterThan $day
        $clock | Should-BeLessThan (2 * $day)
    }

    It 'takes <Form>' -ForEach @(
        @{ Form = 'objects'; Script = { Invoke-KvmTscMigration (Get-KvmVM web01) (Get-KvmVM web02) -Confirm:$false } }
        @{ Form = 'objects that came back from a job'; Script = { Invoke-KvmTscMigration (Copy-Deserialized (Get-KvmVM web01)) (Copy-Deserialized (Get-KvmVM web02)) -Confirm:$false } }
        @{ Form = 'a state'; Script = { Invoke-KvmTscMigration (Save-KvmTscState web01) web02 -Confirm:$false } }
        @{ Form = 'the lines of a plan'; Script = { "Source,Destination`nweb01,web02" | ConvertFrom-Csv | Invoke-KvmTscMigration -Confirm:$false } }
    ) {
        (& $Script).ResidualTicks | Should-Be 0
        Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
    }

    It 'lets both clocks go on from where they stood where the downtime is excluded' {
        $state = Save-KvmTscState web01
        Start-Sleep -Seconds 2
        $result = Invoke-KvmTscMigration $state web02 -Downtime Exclude -Confirm:$false
        "$($result.Downtime)" | Should-Be 'Exclude'
        $result.DowntimeNanoseconds | Should-BeGreaterThan 2e9
        $passed = [double] ($result.NewClockNanoseconds - $state.ClockNanoseconds)
        $passed | Should-BeLessThan 1e9
        $ticks = [double] ($result.Vcpus[0].GuestTsc - [decimal] $state.HostTsc - 1000000000000000)
        [math]::Abs($ticks * 1e6 / $kHz - $passed) | Should-BeLessThanOrEqual ($result.ErrorBoundNanoseconds + 2)
    }

    It 'restores no older state than is allowed' {
        $state = Save-KvmTscState web01
        $before = Get-KernelOffset web02
        $failed = { Invoke-KvmTscMigration $state web02 -MaximumDowntime 0 -Confirm:$false -ErrorAction Stop } | Should-Throw
        $failed.FullyQualifiedErrorId | Should-BeLikeString 'DowntimeExceeded,*'
        Get-KernelOffset web02 | Should-BeCollection $before
        (Invoke-KvmTscMigration $state web02 -MaximumDowntime 600 -Confirm:$false).ResidualTicks | Should-Be 0
    }

    It 'does several at once, and the others where one fails' {
        $null = New-KvmVM web03 -VcpuCount 2
        $null = New-KvmVM small
        $plan = 'web02', 'small', 'web03' | ForEach-Object { [pscustomobject]@{ Source = 'web01'; Destination = $_ } }
        $results = $plan | Invoke-KvmTscMigration -ThrottleLimit 2 -Confirm:$false -ErrorVariable failed -ErrorAction SilentlyContinue
        $results.VMName | Sort-Object | Should-BeCollection web02, web03
        $failed.FullyQualifiedErrorId | Should-BeLikeString 'VcpuMismatch,*'
        Get-KernelOffset web03 | Should-BeCollection 1000000000000000, 1000000000000000
    }

    Context 'what it refuses: <Name>' -ForEach @(
        @{
            Name = 'one VM as both'; Id = 'SameVM'; Category = 'InvalidArgument'; Destination = 'WEB01'; Target = 'WEB01'; Message = 'both source and destination'
            Action = 'Save-KvmTscState'; Prepare = {}
        }
        @{
            Name = 'a destination with other vCPUs'; Id = 'VcpuMismatch'; Category = 'InvalidData'; Destination = 'small'; Target = 'small'; Message = '0-1, small has 0'
            Action = 'same vCPUs'; Prepare = { $null = New-KvmVM small }
        }
        @{
            Name = 'a source whose offsets differ'; Id = 'UnequalOffsets'; Category = 'InvalidOperation'; Destination = 'web02'; Target = 'web02'; Message = 'different TSC offsets'
            Action = 'Repair-KvmMasterClock'; Prepare = { Set-KvmVcpuTscOffset web01 -VcpuId 1 -OffsetTicks 1000000000000001 -Force }
        }
        @{
            Name = 'a destination whose guest would go back in time'; Id = 'GuestTscBackwards'; Category = 'InvalidOperation'; Destination = 'web02'; Target = 'web02 vCPU 0'
            Message = 'would go back'; Action = '-Force'; Prepare = { Set-KvmVcpuTscOffset web02 2000000000000000; $null = Test-KvmVcpuTscOffset -Name web02 }
        }
        @{
            Name = 'an unknown destination'; Id = 'VMNotFound'; Category = 'ObjectNotFound'; Destination = 'nobody'; Target = 'nobody'; Message = 'nobody'
            Action = 'Get-KvmVM'; Prepare = {}
        }
    ) {
        It 'with an error, and nothing changes; with -WhatIf too; and the next line of a plan is done' {
            & $Prepare
            $old = Get-KernelOffset web02
            $observed = Invoke-Observed { Invoke-KvmTscMigration web01 $Destination -Confirm:$false }
            $observed.Output | Should-BeCollection @()
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] $Id $Category $Target $Message $Action
            Get-KernelOffset web02 | Should-BeCollection $old
            (Get-KvmClock web02).ClockNanoseconds | Should-BeLessThan $day

            $preview = Invoke-Observed { Invoke-KvmTscMigration web01 $Destination -WhatIf }
            $preview.Errors.FullyQualifiedErrorId | Should-BeCollection @($observed.Errors[0].FullyQualifiedErrorId)

            'db01', 'db02' | New-KvmVM | Set-KvmVcpuTscOffset -OffsetTicks 5 -WhatIf:$false
            $plan = [pscustomobject] @{ Source = 'web01'; Destination = $Destination }, [pscustomobject] @{ Source = 'db01'; Destination = 'db02' }
            $both = Invoke-Observed { $plan | Invoke-KvmTscMigration -Confirm:$false }
            $both.Errors | Should-BeCollection -Count 1
            $both.Output.VMName | Should-BeCollection @('db02')
        }
    }

    It 'refuses unequal offsets with -Force too once the vCPUs have run: there is nothing to compute with' {
        Set-KvmVcpuTscOffset web01 -VcpuId 1 -OffsetTicks 1000000000000001 -Force
        $null = Test-KvmVcpuTscOffset -Name web01
        $observed = Invoke-Observed { Invoke-KvmTscMigration web01 web02 -Force }
        Assert-KvmError $observed.Errors[0] UnequalOffsets InvalidOperation web02 'master clock is off' 'Repair-KvmMasterClock'
        Get-KernelOffset web02 | Should-BeCollection -5000, -5000
    }

    It 'refuses a source that was removed' {
        $removed = Get-KvmVM web01
        Remove-KvmVM web01
        $observed = Invoke-Observed { Invoke-KvmTscMigration $removed web02 -Force }
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound web02 'web01' 'Get-KvmVM'
        Get-KernelOffset web02 | Should-BeCollection -5000, -5000
    }

    It 'takes a guest that has run back in time with -Force' {
        Set-KvmVcpuTscOffset web02 2000000000000000
        $null = Test-KvmVcpuTscOffset -Name web02
        (Invoke-KvmTscMigration web01 web02 -Force).ResidualTicks | Should-Be 0
    }

    It 'migrates a frequency that KVM does not scale' {
        Set-KvmTscFrequency web01 ($kHz + 100)
        $result = Invoke-KvmTscMigration web01 web02 -Confirm:$false
        (Get-KvmTscFrequency web02).TscKHz | Should-BeCollection ($kHz + 100), ($kHz + 100)
        $result.ResidualTicks | Should-Be 0
    }

    Context 'the question' {
        It 'cannot be answered by nobody: it fails and changes nothing' {
            $observed = Invoke-Observed { Invoke-KvmTscMigration web01 web02 }
            $observed.Output | Should-BeCollection @()
            "$($observed.Terminating)$($observed.Errors)" | Should-MatchString 'NonInteractive'
            Get-KernelOffset web02 | Should-BeCollection -5000, -5000
            (Get-KvmClock web02).ClockNanoseconds | Should-BeLessThan $day
        }

        It 'is asked without -Confirm, and the offsets are <Expected> when the answer is <Answer>' -ForEach @(
            @{ Answer = 'No'; Expected = -5000 }
            @{ Answer = 'Yes'; Expected = 1000000000000000 }
        ) {
            $observed = Invoke-Interactive 'Invoke-KvmTscMigration web01 web02' $Answer
            $observed.Questions | Should-BeCollection -Count 1
            $observed.Questions[0] | Should-MatchString 'TSC offset of 2 vCPU\(s\) from -5000 to 1000000000000000 ticks'
            Get-KernelOffset web02 | Should-BeCollection $Expected, $Expected
        }

        It 'is not asked with <_>' -ForEach '-Force', '-Confirm:$false' {
            $observed = Invoke-Interactive "Invoke-KvmTscMigration web01 web02 $_"
            $observed.Questions | Should-BeCollection @()
            Get-KernelOffset web02 | Should-BeCollection 1000000000000000, 1000000000000000
        }

        It 'is asked with -Force and -Confirm' {
            $observed = Invoke-Interactive 'Invoke-KvmTscMigration web01 web02 -Force -Confirm' No
            $observed.Questions | Should-BeCollection -Count 1
            Get-KernelOffset web02 | Should-BeCollection -5000, -5000
        }

        It 'is only shown with <_>, and nothing changes' -ForEach @(
            'Invoke-KvmTscMigration web01 web02 -WhatIf'
            'Invoke-KvmTscMigration web01 web02 -WhatIf -Force'
            '$WhatIfPreference = $true; Invoke-KvmTscMigration web01 web02 -Force; $WhatIfPreference = $false'
        ) {
            $observed = Invoke-Interactive $_
            $observed.Output | Should-BeCollection @()
            $observed.Questions | Should-BeCollection @()
            $observed.Lines[0] | Should-MatchString ('Restore the clocks of web01 \(process \d+\): kvmclock from \d+\.\d{9} s to 86[4-9]\d\d\.\d{9} s, ' +
                'TSC offset of 2 vCPU\(s\) from -5000 to 1000000000000000 ticks.*" on target "web02 \(process')
            Get-KernelOffset web02 | Should-BeCollection -5000, -5000
            (Get-KvmClock web02).ClockNanoseconds | Should-BeLessThan $day
        }
    }
}

Describe 'Invoke-KvmTscMigration, its parameters' {
    It 'takes <Given> for a time of <Seconds> s' -ForEach @(
        @{ Given = 5; Seconds = 5 }
        @{ Given = 0.25; Seconds = 0.25 }
        @{ Given = '7.5'; Seconds = 7.5 }
        @{ Given = '00:01:00'; Seconds = 60 }
        @{ Given = [timespan]::FromHours(1); Seconds = 3600 }
    ) {
        $attribute = (Get-Command Restore-KvmTscState).Parameters.MaximumDowntime.Attributes.Where({ $_.GetType().Name -eq 'SecondsAttribute' })[0]
        ([timespan] $attribute.Transform($null, $Given)).TotalSeconds | Should-Be $Seconds
    }

    It 'refuses <Given> for a time' -ForEach @{ Given = -1 }, @{ Given = 1e300 }, @{ Given = 'soon' } {
        $failed = { Restore-KvmTscState nobody -State $null -MaximumDowntime $Given -ErrorAction Stop } | Should-Throw
        $failed.FullyQualifiedErrorId | Should-BeLikeString 'ParameterArgument*'
    }
}
