BeforeDiscovery {
    $root = (Resolve-Path "$PSScriptRoot/../..").ProviderPath
    $script:scripts = @(Get-ChildItem "$root/*.ps1", "$root/docs/*.ps1", "$root/samples/*.ps1", "$root/tests/Pester/*.ps1", "$root/tests/Pester/*.psd1").FullName.Substring($root.Length + 1)
    $script:shell = @(Get-ChildItem "$root/*.sh", "$root/.ci", "$root/lab", "$root/tests/*.sh" -File | Where-Object {
            (Get-Content $_ -TotalCount 1) -match '^#!.*\b(ba|busybox )?sh\b'
        }).FullName.Substring($root.Length + 1)
}

BeforeAll {
    $script:root = (Resolve-Path "$PSScriptRoot/../..").ProviderPath
}

Describe 'PSScriptAnalyzer' {
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
    BeforeAll {
        if (-not (Get-Command shellcheck -CommandType Application -ErrorAction Ignore)) {
            throw 'shellcheck is missing. Install it: sudo apt-get install shellcheck'
        }
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
