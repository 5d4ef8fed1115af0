BeforeAll {
    . "$PSScriptRoot/Common.ps1"
}

Describe 'A migration between two VMs of this process' {
    BeforeAll {
        $script:lack = Get-Lack
        if ($lack) {
            return
        }
        $script:names = 'source', 'destination' | ForEach-Object { "acceptance-$_-$PID" }
        $script:vms = $names | New-KvmVM -VcpuCount 2
    }

    BeforeEach {
        Skip-For $lack
    }

    AfterAll {
        if (-not $lack) {
            $vms | Remove-KvmVM
        }
    }

    It 'is exact to the tick' {
        Set-KvmVcpuTscOffset $names[0] -180000000000
        $null = Set-KvmClock $names[0] 3600000000000
        $result = Invoke-KvmTscMigration $names[0] $names[1] -Confirm:$false
        $result.ResidualTicks | Should -Be 0
        [Math]::Abs($result.ClockResidualNanoseconds) | Should -BeLessOrEqual $result.ClockErrorBoundNanoseconds
        (Get-KvmVcpuTscOffset $names[1]).OffsetTicks | Should -Be @(-180000000000, -180000000000)
    }

    It 'is one for its guest as well' {
        (Test-KvmVcpuTscOffset $names[1]).Passed | Should -Be @($true, $true)
    }

    It 'goes by a file and by the kernel''s formula, within the bound that it states' {
        $file = Join-Path $TestDrive state.json
        Save-KvmTscState $names[0] | Export-KvmTscState $file
        $result = Import-KvmTscState $file | Restore-KvmTscState $names[1] -Method Documented -Force
        [Math]::Abs($result.ResidualNanoseconds) | Should -BeLessOrEqual $result.ErrorBoundNanoseconds
    }
}
