BeforeAll {
    . "$PSScriptRoot/Common.ps1"
}

# A process with a VM whose guest reads its TSC all the while, until it is told to rest, and once more in the end.
Describe 'A process with a VM, attached to' {
    BeforeAll {
        $script:lack = Get-Lack
        if ($lack) {
            return
        }
        $script:directory = "$TestDrive"
        $manifest = "$PSScriptRoot/../KvmTsc.psd1"
        $script:job = Start-Job {
            Import-Module $using:manifest
            $vm = New-KvmVM "acceptance-$PID" -VcpuCount 2
            Set-Content "$using:directory/process" $PID
            while (-not (Test-Path "$using:directory/rest")) {
                $vm | Test-KvmVcpuTscOffset
            }
            $null = New-Item "$using:directory/rests"
            while (-not (Test-Path "$using:directory/once more")) {
                Start-Sleep -Milliseconds 50
            }
            $vm | Test-KvmVcpuTscOffset
        }
        Wait-Until 'it has its VM' { Get-Content "$directory/process" -ErrorAction Ignore } $job
        $script:vm = Get-KvmVM -ProcessId (Get-Content "$directory/process")
        $script:lack = $vm.CanAttach ? '' : $vm.Reason
    }

    BeforeEach {
        Skip-For $lack
    }

    AfterAll {
        if (Test-Path variable:job) {
            $job | Remove-Job -Force
        }
    }

    It 'goes on as if nothing had been, twenty times' {
        $offsets = 1..20 | ForEach-Object { $vm | Get-KvmVcpuTscOffset -Stop }
        $offsets.Count | Should -Be 40
        @($offsets.OffsetTicks | Select-Object -Unique).Count | Should -Be 1
        ($offsets.StoppedMicroseconds | Measure-Object -Minimum).Minimum | Should -BeGreaterThan 0
        $null = New-Item "$directory/rest"
        Wait-Until 'it rests' { Test-Path "$directory/rests" } $job
        $read = $job | Receive-Job
        $read.Count | Should -BeGreaterThan 1
        $read | Where-Object { -not $_.Passed } | Out-String | Should -BeNullOrEmpty
    }

    It 'has what was set, by its own guest' {
        $vm | Set-KvmVcpuTscOffset -OffsetTicks 180000000000
        $null = New-Item "$directory/once more"
        $read = $job | Receive-Job -Wait
        $read.OffsetTicks | Should -Be @(180000000000, 180000000000)
        $read.Passed | Should -Be @($true, $true)
    }
}
