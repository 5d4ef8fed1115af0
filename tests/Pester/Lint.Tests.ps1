BeforeDiscovery {
    $root = (Resolve-Path "$PSScriptRoot/../..").ProviderPath
    $files = @(Get-ChildItem "$root/*.ps1", "$root/*.sh" -File) + (Get-ChildItem "$root/.ci", "$root/bench", "$root/docs", "$root/lab", "$root/packaging", "$root/samples", "$root/service", "$root/tests" -File -Recurse)
    $script:scripts = @($files.Where({ $_.Extension -in '.ps1', '.psm1', '.psd1' }).FullName.Substring($root.Length + 1))
    $script:analyzer = Get-Module PSScriptAnalyzer -ListAvailable | Where-Object Version -GE '1.25.0'
    $script:shellcheck = Get-Command shellcheck -CommandType Application -ErrorAction Ignore
    $script:shell = @($files.Where({ (Get-Content $_ -TotalCount 1) -match '^#!.*\b(ba|busybox )?sh\b' }).FullName.Substring($root.Length + 1))
}

BeforeAll {
    $script:root = (Resolve-Path "$PSScriptRoot/../..").ProviderPath
}

Describe 'PSScriptAnalyzer' {
    if (-not $analyzer) {
        It 'finds nothing' {
            Set-ItResult -Skipped -Because 'it is missing. Install it: Install-PSResource PSScriptAnalyzer -Version 1.25.0'
        }
        return
    }

    BeforeAll {
        Import-Module PSScriptAnalyzer -MinimumVersion 1.25.0
        . "$PSScriptRoot/Common.ps1"

        function Get-Finding([string] $Path) {
            Invoke-ScriptAnalyzer $Path | ForEach-Object { "$($_.RuleName), line $($_.Line): $($_.Message)" }
        }
    }

    It 'finds nothing in <_>' -ForEach $scripts {
        Get-Finding (Join-Path $root $_) | Should-BeCollection @()
    }

    It 'finds nothing in the manifest' {
        Get-Finding (Get-ManifestPath) | Should-BeCollection @()
    }

    It 'would find something' {
        $file = Join-Path $TestDrive wrong.ps1
        Set-Content $file 'cd /tmp'
        Get-Finding $file | Should-BeLikeString 'PSAvoidUsingCmdletAliases*'
    }
}

Describe 'shellcheck' -ForEach @{ Files = $shell } {
    if (-not $shellcheck) {
        It 'finds nothing' {
            Set-ItResult -Skipped -Because 'it is missing. Install it: sudo apt-get install shellcheck'
        }
        return
    }

    It 'looks at what runs the build, the lab and the tests' {
        'build.sh', '.ci/run', 'tests/engine.sh', 'lab/kvmlab', 'lab/init' | Where-Object { $_ -notin $Files } | Should-BeCollection @()
    }

    It 'finds nothing in <_>' -ForEach $shell {
        Push-Location $root
        try {
            $found = shellcheck --external-sources --format gcc $_ 2>&1
            $status = $LASTEXITCODE
        }
        finally {
            Pop-Location
        }
        $found | Should-BeCollection @()
        $status | Should-Be 0
    }
}

Describe 'The workflows' {
    It 'take what others made by its digest' {
        $files = (Get-ChildItem "$root/.github/workflows", "$root/.github/actions" -Filter *.yml -Recurse).FullName
        $taken = (Select-String '^\s*(- )?(uses|container|image): +(?<what>[^.\s].*)$' $files).Matches | ForEach-Object { $_.Groups['what'].Value }
        $taken.Count | Should-BeGreaterThan 5
        $taken | Should-All { $_ -match '@[0-9a-f]{40} # v\d' -or $_ -match '@sha256:[0-9a-f]{64}$' }
    }
}
