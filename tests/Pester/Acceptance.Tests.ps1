Describe 'The checks of a host that come with the module' -Tag Installed {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:checks = "$((Get-Module KvmTsc).ModuleBase)/tests"
    }

    AfterAll {
        Clear-VM
    }

    It 'pass, report as NUnit XML, and touch no VM but their own' {
        $null = New-KvmVM web01 -VcpuCount 2
        Set-KvmVcpuTscOffset web01 4711
        $said = pwsh -NoProfile -NonInteractive -File "$checks/Invoke-Acceptance.ps1" "$TestDrive/report.xml" 2>&1
        $LASTEXITCODE | Should-Be 0 -Because ($said -join "`n")
        $said[-1] | Should-MatchString '^\d+ passed, 0 failed, \d+ skipped$'
        $report = ([xml] (Get-Content "$TestDrive/report.xml" -Raw)).'test-results'
        $report.failures | Should-Be '0'
        [int] $report.total | Should-BeGreaterThanOrEqual 9
        Get-KernelOffset web01 | Should-BeCollection 4711, 4711
        (Get-KvmVM).VMName | Should-BeCollection @('web01')
    }

    It 'say what the host lacks' {
        $script = "Import-Module Pester; (Invoke-Pester '$checks/Qemu.Tests.ps1' -Output Detailed -PassThru).SkippedCount"
        $said = env "PATH=$PSHOME" "$PSHOME/pwsh" -NoProfile -NonInteractive -Command $script 2>&1
        $said[-1] | Should-Be '1'
        "$said" | Should-MatchString 'QEMU is missing'
    }
}
