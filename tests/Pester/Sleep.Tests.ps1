# A host that sleeps, and whose TSC begins anew (./build.sh Intel): the emulated Intel host does as machines do, asleep for as long as its firmware takes. VMs run through it, and a guest of
# tests/Vmm is the judge, by CLOCK_REALTIME of its host, its TSC and kvmclock of one instant.
Describe 'A host that sleeps' -Tag Sleep {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        . "$PSScriptRoot/Watching.ps1"
        . "$PSScriptRoot/OtherVmms.ps1"
        if ((Get-Content /proc/cmdline) -notmatch 'kvmlab_cpu=intel') {
            throw 'This has its host sleep, and is for the emulated Intel host alone: lab/kvmlab exec --cpu intel'
        }
        $script:hook = (Resolve-Path "$PSScriptRoot/../../service/sleep-hook").ProviderPath
        $script:second = 1000000000

        # adjtimex(ADJ_STATUS | ADJ_ESTERROR | ADJ_MAXERROR): its clock is right by its own word, to 1 ms
        env LC_ALL=C perl -e 'my $timex = pack("L x4 q4 l x164", 0x1C, 0, 0, 1000, 0, 0); syscall(159, $timex)'

        function Suspend-Host {
            [IO.File]::WriteAllText('/sys/power/state', 'mem')
        }

        # Where a guest's clocks stand.
        function Get-Last([string] $Name) {
            (Get-Log $Name).Vcpus[0].Last
        }

        # What a guest lost since, in nanoseconds.
        function Get-LostSince([object] $Before, [string] $Name) {
            Wait-Sample $Name
            $now = Get-Last $Name
            $passed = $now.Real - $Before.Real
            [pscustomobject]@{
                Passed = $passed
                Tsc    = $passed - ($now.Tsc - $Before.Tsc) * 1000000 / (Get-KvmHost).TscKHz
                Clock  = $passed - ($now.Clock - $Before.Clock)
            }
        }

        function Invoke-Hook([string] $When) {
            $env:PSModulePath, $path = (Split-Path (Get-Module KvmTsc).ModuleBase), $env:PSModulePath
            $said = @(& $hook $When suspend)
            $env:PSModulePath = $path
            $said | Write-Information -InformationAction Continue
            $said -match '^\{' | ConvertFrom-Json
        }
    }

    AfterAll {
        @($processes.Keys) | ForEach-Object { Close-Vmm $_ }
        Clear-VM
    }

    Context 'with a guest that runs' {
        BeforeAll {
            $script:nights = @()
            if ($programs) {
                Open-Vmm @{ Name = 'fc01'; Program = 'firecracker' } '--config-file none'
                Wait-Sample fc01
                $script:nights = foreach ($night in 1, 2) {
                    Invoke-Hook pre | Should-BeNull
                    $before = Get-Last fc01
                    Suspend-Host
                    $without = Get-LostSince $before fc01
                    $result = Invoke-Hook post
                    [pscustomobject]@{ Without = $without; Result = $result; With = Get-LostSince $before fc01 }
                }
                $nights.ForEach({ "asleep, with and without: $($_.Without), $($_.With), $($_.Result | ConvertTo-Json -Compress)" }) | Write-Information -InformationAction Continue
            }
        }

        BeforeEach {
            Assert-Built
        }

        It 'has KVM take its master clock away for good, and time from its TSC' {
            (Get-KvmClock fc01).Flags | Should-Be None
            $nights | Should-All { $_.Without.Tsc -gt 1000000 }
            { Repair-KvmMasterClock fc01 -Confirm:$false -ErrorAction Stop } | Should-Throw -FullyQualifiedErrorId 'ClockWithoutTriple*'
        }

        It 'gets its time back by the hook, night after night, within the bound' {
            foreach ($night in $nights) {
                $night.Result.VMName | Should-Be fc01
                $night.Result.HasMasterClock | Should-BeFalse
                [math]::Abs($night.Result.ResidualNanoseconds) | Should-BeLessThan $night.Result.ErrorBoundNanoseconds
                [math]::Abs($night.With.Tsc) | Should-BeLessThan $night.Result.ErrorBoundNanoseconds
                [math]::Abs($night.With.Clock) | Should-BeLessThan $night.Result.ClockErrorBoundNanoseconds
                $night.Result.ErrorBoundNanoseconds | Should-BeLessThan (0.5 * $second) # setting kvmclock takes an interpreted CPU its time
            }
        }

        It 'never sees a clock go back' {
            (Get-Log fc01).Vcpus.Backwards | Should-All { $_ -eq 0 }
        }
    }

    Context 'with a watch' {
        BeforeAll {
            if ($programs) {
                Open-Vmm @{ Name = 'fc02'; Program = 'firecracker' } '--config-file none'
                Wait-Sample fc02
                $script:watch = Open-Watch @{ Name = 'fc02'; Correct = $true; Confirm = $false }
                $before = Get-Last fc02
                Suspend-Host
                $script:told = Wait-Told $watch Corrected
                $script:lost = Get-LostSince $before fc02
                Get-Told $watch | Format-Table Event, LostNanoseconds, ResidualNanoseconds, ErrorBoundNanoseconds, Reason | Out-String -Width 250 | Write-Information -InformationAction Continue
                "watched: $lost" | Write-Information -InformationAction Continue
            }
        }

        AfterAll {
            Close-OpenWatch
        }

        BeforeEach {
            Assert-Built
        }

        It 'gets its time back with nobody doing anything' {
            $told.LostNanoseconds | Should-BeGreaterThan 1000000
            [math]::Abs($told.ResidualNanoseconds) | Should-BeLessThan $told.ErrorBoundNanoseconds
            [math]::Abs($lost.Tsc) | Should-BeLessThan 10000000
            [math]::Abs($lost.Clock) | Should-BeLessThan 10000000
            (Get-Log fc02).Vcpus.Backwards | Should-All { $_ -eq 0 }
        }

        It 'is told that KVM took its master clock away' {
            @((Get-Told $watch).Event) -eq 'MasterClockLost' | Should-BeCollection @('MasterClockLost')
        }

        It 'does not take one of its name for it that begins after that' {
            Close-Vmm fc02
            $null = Wait-Told $watch Ended
            Open-Vmm @{ Name = 'fc02'; Program = 'firecracker' } '--config-file none'
            Wait-Sample fc02
            $null = Wait-Told $watch Found
            Start-Sleep -Seconds 5
            @((Get-Told $watch).Event) -eq 'Corrected' | Should-BeCollection @('Corrected')
            (Get-KvmClock fc02).HostTsc | Should-BeGreaterThan 0
        }
    }

    Context 'with a VM that does not run' {
        BeforeAll {
            $null = New-KvmVM web01 -VcpuCount 2
            Test-KvmVcpuTscOffset web01 | Should-All { $_.Passed }
            $script:state = Save-KvmTscState web01
            Suspend-Host
        }

        It 'warns of its kvmclock, of which KVM makes centuries, and captures none' {
            $warning, $clock = Get-KvmClock web01 3>&1
            "$warning" | Should-MatchString 'began anew while it slept, and web01 has not run since'
            $clock.ClockNanoseconds | Should-BeGreaterThan ([ulong]::MaxValue / 8)
            $observed = Invoke-Observed { Save-KvmTscState web01 }
            Assert-KvmError $observed.Errors[0] ClockWithoutTriple InvalidOperation web01 'began anew while it slept' 'AtResume'
        }

        It 'gives it the clocks of a state' {
            $result = $state | Restore-KvmTscState web01
            $result.HasMasterClock | Should-BeFalse
            [math]::Abs($result.ResidualNanoseconds) | Should-BeLessThan $result.ErrorBoundNanoseconds
            [math]::Abs($result.ClockResidualNanoseconds) | Should-BeLessThan $result.ClockErrorBoundNanoseconds
            Test-KvmVcpuTscOffset web01 | Should-All { $_.Passed }
            (Get-KvmClock web01).ClockNanoseconds | Should-BeGreaterThan $state.ClockNanoseconds
        }

        It 'captures it again, as well as it can be, and takes that from a file' {
            $again = Save-KvmTscState web01
            $again.ClockErrorNanoseconds | Should-BeGreaterThan 0
            $again.ClockErrorNanoseconds | Should-BeLessThan (0.001 * $second)
            $file = Join-Path $TestDrive web01.json
            $again | Export-KvmTscState $file
            (Import-KvmTscState $file).ClockErrorNanoseconds | Should-Be $again.ClockErrorNanoseconds
            $result = Import-KvmTscState $file | Restore-KvmTscState web01
            $result.ResidualTicks | Should-Be 0
            $result.MeasuredBy | Should-Be HostTsc
        }
    }
}
