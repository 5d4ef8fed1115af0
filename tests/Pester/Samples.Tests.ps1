Describe 'The sample Invoke-TwoVMMigration.ps1' -Tag Kvm {
    It 'migrates, prints before and after, and has the guests confirm it' {
        $sample = (Resolve-Path "$PSScriptRoot/../../samples/Invoke-TwoVMMigration.ps1").ProviderPath
        $output = & pwsh -NoProfile -NonInteractive -File $sample 2>&1 | Out-String
        $LASTEXITCODE | Should-Be 0 -Because $output
        $output | Should-MatchString 'Migrated, and confirmed by the guests\.\s*\z'
        foreach ($title in 'Before: kvmclock', 'Before: TSC offset', '-Method Documented', '-Method Best', 'What the guests read themselves', 'After: kvmclock', 'After: TSC offset') {
            $output | Should-MatchString ([regex]::Escape($title))
        }
        [regex]::Matches($output, '(?m)\bTrue$').Count | Should-Be 4
    }
}

Describe 'What a guest''s kernel says, as the sample Invoke-QemuMigration.ps1 judges it' {
    BeforeAll {
        Import-Module "$PSScriptRoot/../../samples/QemuMigration/ClockLog.psm1"
        $script:report = @(
            'log 0 37667016 watchdog: BUG: soft lockup - CPU#0 stuck for 5s! [init:84]'
            'log 4 37737489 Modules linked in:'
            'log 4 37738384 Code: 00 48 39 d0 72 59'
        )
        $script:other = 'log 4 44000000 clocksource: timekeeping watchdog: Marking clocksource tsc as unstable'
    }

    AfterAll {
        Remove-Module ClockLog
    }

    It 'takes a lockup for one that the pause was, whose middle was at <Seconds> s: <IsTaken>' -ForEach @(
        @{ Seconds = 38; IsTaken = $false } # the host was slow before
        @{ Seconds = 37.5; IsTaken = $true }
        @{ Seconds = 32; IsTaken = $true }
        @{ Seconds = 31; IsTaken = $false } # or since
    ) {
        Select-Message ($report + $other) ($Seconds * 1e9) | Should-BeCollection @(if ($IsTaken) { $report }; $other)
    }

    It 'passes over all of a lockup that the host was, slow while it was reported, too' {
        $slow = $report[0], 'log 4 44737489 Modules linked in:', 'log 4 49738384 RIP: 0033:0x402d10', 'log 4 49738390 Code: 00 48 39 d0 72 59'
        $later = $other -replace '44000000', '54000000'
        Select-Message ($slow + $later) 31e9 | Should-BeCollection @($later)
        Select-Message ($slow + $later) 37e9 | Should-BeCollection ($slow + $later)
    }

    It 'says what is new, and knows the beginning of what is not' {
        Select-Message ($report + $other) 31e9 -Known $report[0] | Should-BeCollection @($other)
        Select-Message ($report + $other) 37e9 -Known $report[0] | Should-BeCollection ($report[1..2] + $other)
        Select-Message ($report[1..2] + $other) 31e9 | Should-BeCollection ($report[1..2] + $other)
    }

    It 'passes over no other message' {
        Select-Message @($other) 43e9 | Should-BeCollection @($other)
        @(Select-Message @() 43e9) | Should-BeCollection @()
    }
}

# A guest whose clocks and TSC count nanoseconds, as the host's do. A clock is read at some moment between two readings of the TSC, which are 10 us apart.
Describe 'A guest''s clocks, as the sample Invoke-QemuMigration.ps1 judges them' {
    BeforeAll {
        Import-Module "$PSScriptRoot/../../samples/QemuMigration/ClockLog.psm1"

        function Get-Line([long] $At, [long] $Read, [long] $Lost = 0) {
            $clock = $At + $Read - $Lost
            "second thread=0 tsc=$At real=$clock +10000 mono=$($clock + 10000) +10000 boot=$($clock + 20000) +10000"
        }

        function Get-Witness([string[]] $Log, [long] $At) {
            @{
                Log     = $Log
                Offsets = @([pscustomobject]@{ Ticks = 0d; Ratio = 1d })
                Host    = [pscustomobject]@{ Tsc = [decimal] $At; Real = [decimal] $At; Raw = [decimal] $At }
            }
        }

        # Read as soon as can be at first, and as late as can be at last, as by interruptions, so that the clocks seem to go faster than they do.
        $script:before = Get-Witness -Log (0..8 | ForEach-Object { Get-Line -At (1e9 * (10 + $_)) -Read ($_ -eq 0 ? 9900 : $_ -eq 8 ? 100 : 5000) }) -At 18.5e9
    }

    AfterAll {
        Remove-Module ClockLog
    }

    It 'finds <Wrong> of 3 samples wrong where <Lost> ns are lost' -ForEach @(
        @{ Lost = 0; Wrong = 0 }
        @{ Lost = 60000; Wrong = 3 }
        @{ Lost = -60000; Wrong = 3 }
    ) {
        $after = Get-Witness -Log (0..2 | ForEach-Object { Get-Line -At (1e9 * (30 + $_)) -Read 5000 -Lost $Lost }) -At 34e9
        $verdict = Compare-GuestClock -Before $before -After $after -Stopped 19e9 -Resumed 25e9
        $verdict.Samples | Should-Be 3
        $verdict.WrongSamples | Should-Be $Wrong
        $verdict.Apart | Should-Be 0
        $verdict.KnownTo | Should-BeLessThan 40000
        [math]::Abs($verdict.StoppedMonotonic - 19e9) | Should-BeLessThan 40000
    }

    It 'takes a line for clocks that parted, where it has both samples, and they parted by more than was told' {
        $one, $other = (Get-Line -At 30e9 -Read 5000), (Get-Line -At 31e9 -Read 5000) -replace '^second '
        $log = @((Get-Line -At 32e9 -Read 5000), "apart real 60000 $one | $other", "apart real 60000 $one | thread=0 cpu=0 number=2 tsc=31", 'apart real 6', 'apart real 1000 $one | $other')
        (Compare-GuestClock -Before $before -After (Get-Witness -Log $log -At 34e9) -Stopped 19e9 -Resumed 25e9).Apart | Should-Be 1
        (Compare-GuestClock -Before $before -After (Get-Witness -Log $log -At 34e9) -Stopped 19e9 -Resumed 25e9 -ToldNanoseconds 59000).Apart | Should-Be 0
    }
}
