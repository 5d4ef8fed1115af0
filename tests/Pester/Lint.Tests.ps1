BeforeDiscovery {
    $root = (Resolve-Path (Join-Path $PSScriptRoot .. ..)).Path
    Push-Location $root
    $scripts = @(Get-Item build.ps1, KvmTsc.psd1, docs/*.ps1, samples/*.ps1, tests/Pester/*.ps1, tests/Pester/*.psd1 | Resolve-Path -Relative)
    $shell = @(git ls-files --cached --others --exclude-standard | Where-Object { (Test-Path $_ -PathType Leaf) -and (Get-Content $_ -TotalCount 1) -match '^#!.*\bsh|^#!.*bash' })
    Pop-Location
}

Describe 'PSScriptAnalyzer' {
    BeforeAll {
        Import-Module PSScriptAnalyzer -MinimumVersion 1.25.0
        $root = (Resolve-Path (Join-Path $PSScriptRoot .. ..)).Path
    }

    It 'finds nothing in <_>' -ForEach $scripts {
        $found = Invoke-ScriptAnalyzer (Join-Path $root $_) -Settings (Join-Path $PSScriptRoot PSScriptAnalyzerSettings.psd1)
        $found | ForEach-Object { "$($_.RuleName), line $($_.Line): $($_.Message)" } | Should-BeCollection @()
    }
}
