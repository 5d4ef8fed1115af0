Describe 'The algorithm, composed by hand' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:kHz = (Get-KvmHost).TscKHz
        $null = 'web01', 'web01-new' | New-KvmVM -VcpuCount 2
        # The source is far ahead of the destination, so that nothing is right by chance.
        Set-KvmVcpuTscOffset web01 1000000000000000
        Set-KvmClock web01 86400000000000
        $script:before = Test-KvmVcpuTscOffset -Name web01

        # Literally as PRODUCT.md has it.
        $clock   = Get-KvmVM web01 | Get-KvmClock                       # step 1
        $offsets = Get-KvmVM web01 | Get-KvmVcpuTscOffset               # step 2
        $freq    = Get-KvmVM web01 | Get-KvmTscFrequency                # step 3
        $dest    = Get-KvmVM web01-new
        $dest | Set-KvmClock -ClockNanoseconds $clock.ClockNanoseconds -RealtimeNanoseconds $clock.RealtimeNanoseconds   # step 4
        $now     = $dest | Get-KvmClock                                 # step 5
        $offsets | Resolve-KvmTscOffset -Source $clock -Destination $now -Frequency $freq |                              # step 6
            Set-KvmVcpuTscOffset -VM $dest                              # step 7

        $script:source, $script:destination = $clock, $now
        $script:moved = Test-KvmVcpuTscOffset -Name web01-new
        $script:after = Test-KvmVcpuTscOffset -Name web01
    }

    AfterAll {
        Clear-VM
    }

    It 'gives every vCPU the offset of the documented formula, says the kernel' {
        $elapsed = [bigint]::Divide([bigint] ([decimal] $destination.ClockNanoseconds - $source.ClockNanoseconds) * $kHz, 1000000)
        $expected = [long] (1000000000000000 + $elapsed + [bigint] $source.HostTsc - [bigint] $destination.HostTsc)
        Get-KernelOffset web01-new | Should-BeCollection $expected, $expected
    }

    It 'advances kvmclock by the real time that passed' {
        # One host, one TSC: it tells the time between both readings. CLOCK_REALTIME may have been slewed by 500 ppm in it, and step 4 takes its time.
        $elapsed = ($destination.HostTsc - $source.HostTsc) * 1e6 / $kHz
        $advanced = $destination.ClockNanoseconds - $source.ClockNanoseconds
        $advanced | Should-BeGreaterThan 0
        [math]::Abs($advanced - $elapsed) | Should-BeLessThan ($elapsed / 100)
    }

    It 'has the guest read the TSC that the source''s guest would read then' {
        $missed = [math]::Abs((Get-KernelOffset web01-new)[0] - 1000000000000000)
        foreach ($vcpu in 0, 1) {
            $moved[$vcpu].ObservedGuestTsc | Should-BeGreaterThan ($before[$vcpu].ObservedGuestTsc - $missed)
            $moved[$vcpu].ObservedGuestTsc | Should-BeLessThan ($after[$vcpu].ObservedGuestTsc + $missed)
        }
        # On one host the right offset is the source's; the method misses it by as much as kvmclock was off.
        $missed | Should-BeLessThan (($destination.HostTsc - $source.HostTsc) / 100)
        $before + $moved + $after | Should-All { $_.Passed }
    }

    It 'leaves the source as it was' {
        Get-KernelOffset web01 | Should-BeCollection 1000000000000000, 1000000000000000
        "$((Get-KvmClock web01-new).Flags)" | Should-Be 'TscStable, Realtime, HostTsc'
    }
}
