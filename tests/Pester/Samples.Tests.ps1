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

    It 'passes over no other message' {
        Select-Message @($other) 43e9 | Should-BeCollection @($other)
        @(Select-Message @() 43e9) | Should-BeCollection @()
    }
}
