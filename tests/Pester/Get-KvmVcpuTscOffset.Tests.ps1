Describe 'Get-KvmVcpuTscOffset' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:vm = New-KvmVM web01 -VcpuCount 3
    }

    AfterAll {
        Clear-VM
    }

    It 'tells the offsets that the kernel shows, and whose they are' {
        Set-KvmVcpuTscOffset web01 -VcpuId 1 -OffsetTicks -123456789012 -Force
        $offsets = Get-KvmVcpuTscOffset web01
        $offsets.OffsetTicks | Should-BeCollection (Get-KernelOffset web01)
        $offsets[1].OffsetTicks | Should-Be -123456789012
        $offsets.VcpuId | Should-BeCollection 0, 1, 2
        $offsets | Should-All { $_.VMName -eq 'web01' -and $_.VMId -eq $vm.VMId -and $_.ProcessId -eq $PID -and $_.StoppedMicroseconds -eq 0 }
        $offsets | Should-All { $_.Source -eq 'Debugfs' }
    }

    It 'reads the same with -Stop, by ioctls' {
        $offsets = Get-KvmVcpuTscOffset web01 -Stop
        $offsets.OffsetTicks | Should-BeCollection (Get-KernelOffset web01)
        $offsets | Should-All { $_.Source -eq 'Ioctl' }
    }

    It 'takes -Stop or -NoStop' {
        $observed = Invoke-Observed { Get-KvmVcpuTscOffset web01 -Stop -NoStop }
        Assert-KvmError $observed.Terminating InvalidValue InvalidData '' 'exclude each other' 'one of them'
    }

    It 'reads with -NoStop what debugfs shows, of the vCPUs asked for' {
        Set-KvmVcpuTscOffset web01 -VcpuId 2 -OffsetTicks ([long]::MinValue) -Force
        $offsets = Get-KvmVcpuTscOffset web01 -NoStop
        $offsets.OffsetTicks | Should-BeCollection (Get-KernelOffset web01)
        $offsets[2].OffsetTicks | Should-Be ([long]::MinValue)
        $offsets | Should-All { $_.VMId -eq $vm.VMId -and $_.StoppedMicroseconds -eq 0 }
        ($vm | Get-KvmVcpuTscOffset -VcpuId 0, 2 -NoStop).VcpuId | Should-BeCollection 0, 2
    }

    It 'reads by ioctls where debugfs does not tell, and says so with -NoStop' {
        $expected = (Get-KvmVcpuTscOffset web01 -Stop).OffsetTicks
        umount /sys/kernel/debug
        try {
            $offsets = Get-KvmVcpuTscOffset web01
            $observed = Invoke-Observed { Get-KvmVcpuTscOffset web01 -NoStop }
        }
        finally {
            mount -t debugfs debugfs /sys/kernel/debug
        }
        $offsets.OffsetTicks | Should-BeCollection $expected
        $offsets | Should-All { $_.Source -eq 'Ioctl' }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] DebugfsUnavailable ResourceUnavailable 'web01' 'debugfs' '-NoStop'
    }
}
