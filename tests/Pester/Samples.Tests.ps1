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
