Describe 'Resolve-KvmTscOffset' {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"

        function ConvertTo-Clock([object] $Nanoseconds, [object] $HostTsc, [string] $Name = 'web01') {
            [KvmTsc.Clocks.KvmClock]::new($Name, 4711, '4711:12', $Nanoseconds, 1700000000000000000, $HostTsc, $null -eq $HostTsc ? 0 : 14, 0)
        }

        function ConvertTo-Frequency([uint] $KHz, [ulong] $Ratio = 0, [int] $FractionBits = 0, [int] $VcpuId = 0) {
            [KvmTsc.Clocks.KvmTscFrequency]::new('web01', 4711, '4711:12', $VcpuId, $KHz, $KHz, $Ratio, $FractionBits, 0)
        }
    }

    # offset - (guest_src - guest_dest) * freq + (tsc_src - tsc_dest), computed with Python's integers.
    It 'is exact for <Case>' -ForEach @(
        @{ Case = 'a whole number of milliseconds'; Offset = -1000; From = '1000000000', '5000000000'; To = '3000000000', '1000000000'; KHz = 2000000; Expected = 7999999000 }
        @{ Case = 'no downtime'; Offset = 123456789; From = '7', '42'; To = '7', '42'; KHz = 2096011; Expected = 123456789 }
        @{ Case = 'a nanosecond, rounded towards zero'; Offset = 0; From = '1000', '0'; To = '1001', '0'; KHz = 2096011; Expected = 2 }
        @{ Case = 'a nanosecond back, rounded towards zero'; Offset = 0; From = '1001', '0'; To = '1000', '0'; KHz = 2096011; Expected = -2 }
        @{ Case = 'ten days, whose product passes 64 bits'; Offset = 0; From = '0', '0'; To = '864000000000000', '0'; KHz = 3000000; Expected = 2592000000000000 }
        @{ Case = 'an offset that wraps upwards'; Offset = [long]::MaxValue; From = '0', '10'; To = '0', '0'; KHz = 1000000; Expected = -9223372036854775799 }
        @{ Case = 'an offset that wraps downwards'; Offset = [long]::MinValue; From = '0', '0'; To = '0', '1'; KHz = 1000000; Expected = [long]::MaxValue }
        @{ Case = 'a host TSC that wrapped'; Offset = 5; From = '0', '18446744073709551615'; To = '0', '5'; KHz = 1000000; Expected = -1 }
        @{ Case = 'a kvmclock that wrapped'; Offset = 0; From = '18446744073709551615', '0'; To = '999999', '0'; KHz = 1000000; Expected = 1000000 }
        @{ Case = 'a destination that booted later'; Offset = -103114404813; From = '7298441468', '118000000000'; To = '12552352739', '3500000000'; KHz = 2096011; Expected = 22397851004 }
    ) {
        $resolved = Resolve-KvmTscOffset -VcpuId 0 -OffsetTicks $Offset (ConvertTo-Clock $From[0] $From[1]) (ConvertTo-Clock $To[0] $To[1]) (ConvertTo-Frequency $KHz)
        $resolved.OffsetTicks | Should-Be $Expected
    }

    # scale_src(tsc_src) + offset + (guest_dest - guest_src) * freq - scale_dst(tsc_dest)
    It 'is exact with scaling <Case>' -ForEach @(
        @{
            Case = 'on Intel, to a destination of the guest''s own frequency'; Offset = -500; From = '1000000000', '3000000000000'; To = '5000000000', '1000000000000'
            KHz = 2100000; Ratio = 227345173497068, 48; DestinationRatio = 281474976710656, 48; Expected = 1431476922576
        }
        @{
            Case = 'on AMD, on both sides'; Offset = 77; From = '1000000000', '3000000000000'; To = '5000000000', '1000000000000'
            KHz = 2100000; Ratio = 3469012046, 32; DestinationRatio = 3006477107, 32; Expected = 1731476922663
        }
        @{
            Case = 'from Intel to AMD, of host TSCs near the end of their range'; Offset = 0; From = '1000000000', '9223372036854788153'; To = '4000000000', '4611686018427388903'
            KHz = 1900000; Ratio = 205693252211633, 48; DestinationRatio = 3264175144, 32; Expected = 3235275121196775750
        }
        @{
            Case = 'on the destination alone'; Offset = 1; From = '0', '1000000000000'; To = '1000000000', '1000000000000'
            KHz = 2000000; Ratio = 0, 0; DestinationRatio = 3435973836, 32; Expected = 202000000188
        }
    ) {
        $resolved = Resolve-KvmTscOffset -VcpuId 0 -OffsetTicks $Offset (ConvertTo-Clock $From[0] $From[1]) (ConvertTo-Clock $To[0] $To[1]) (ConvertTo-Frequency $KHz @Ratio) -DestinationFrequency (ConvertTo-Frequency $KHz @DestinationRatio)
        $resolved.OffsetTicks | Should-Be $Expected
    }

    It 'names the destination''s VM and the vCPU, so that the result can be piped on' {
        $resolved = Resolve-KvmTscOffset -VcpuId 3 -OffsetTicks 0 (ConvertTo-Clock 0 0 -Name web01) (ConvertTo-Clock 0 0 -Name web01-new) (ConvertTo-Frequency 1000000)
        $resolved | Should-HaveType ([KvmTsc.Clocks.KvmVcpuTscOffset])
        $resolved.VMName, $resolved.ProcessId, $resolved.VMId, $resolved.VcpuId | Should-BeCollection web01-new, 4711, '4711:12', 3
    }

    It 'takes offsets from the pipeline, and for each vCPU its own frequency' {
        $offsets = 0, 1 | ForEach-Object { [pscustomobject] @{ VcpuId = $_; OffsetTicks = 100 * $_ } }
        $resolved = $offsets | Resolve-KvmTscOffset (ConvertTo-Clock 0 0) (ConvertTo-Clock 1000000000 0) (ConvertTo-Frequency 1000000), (ConvertTo-Frequency 2000000 -VcpuId 1)
        $resolved.VcpuId | Should-BeCollection 0, 1
        $resolved.OffsetTicks | Should-BeCollection 1000000000, 2000000100
    }

    It 'takes one frequency for all vCPUs' {
        $offsets = 0, 1 | ForEach-Object { [pscustomobject] @{ VcpuId = $_; OffsetTicks = $_ } }
        ($offsets | Resolve-KvmTscOffset (ConvertTo-Clock 0 0) (ConvertTo-Clock 1000000000 0) (ConvertTo-Frequency 1000000 -VcpuId 7)).OffsetTicks |
            Should-BeCollection 1000000000, 1000000001
    }

    It 'takes readings that came back from a job' {
        $arguments = @{
            Source               = Copy-Deserialized (ConvertTo-Clock 1000000000 18446744073709551615)
            Destination          = Copy-Deserialized (ConvertTo-Clock 3000000000 7)
            Frequency            = Copy-Deserialized (ConvertTo-Frequency 2000000 -Ratio 4294967296 -FractionBits 32)
            DestinationFrequency = Copy-Deserialized (ConvertTo-Frequency 2000000 -Ratio 4294967296 -FractionBits 32)
        }
        (Copy-Deserialized ([pscustomobject] @{ VcpuId = 0; OffsetTicks = 0 }) | Resolve-KvmTscOffset @arguments).OffsetTicks | Should-Be 3999999992
    }

    Context 'what it refuses' {
        It 'is a <Side> without host TSC' -ForEach @(
            @{ Side = 'source'; From = $null; To = '5' }
            @{ Side = 'destination'; From = '5'; To = $null }
        ) {
            $observed = Invoke-Observed { Resolve-KvmTscOffset -VcpuId 0 -OffsetTicks 0 (ConvertTo-Clock 0 $From) (ConvertTo-Clock 0 $To -Name web01-new) (ConvertTo-Frequency 1000000) }
            $observed.Output | Should-BeCollection @()
            Assert-KvmError $observed.Errors[0] ClockWithoutTriple InvalidOperation web01-new "The $Side's clock reading has no host TSC" 'Set-KvmClock'
        }

        It 'is a source that scales while the destination''s ratio is not known' {
            $observed = Invoke-Observed { Resolve-KvmTscOffset -VcpuId 2 -OffsetTicks 0 (ConvertTo-Clock 0 0) (ConvertTo-Clock 0 0 -Name web01-new) (ConvertTo-Frequency 2000000 -Ratio 3469012046 -FractionBits 32) }
            $observed.Output | Should-BeCollection @()
            Assert-KvmError $observed.Errors[0] InvalidValue InvalidData 'web01-new vCPU 2' 'scales its TSC for vCPU 2' '-DestinationFrequency'
        }

        It 'is a vCPU without frequency, and the others go on' {
            $offsets = 0..2 | ForEach-Object { [pscustomobject] @{ VcpuId = $_; OffsetTicks = 0 } }
            $observed = Invoke-Observed {
                $offsets | Resolve-KvmTscOffset (ConvertTo-Clock 0 0) (ConvertTo-Clock 0 0 -Name web01-new) (ConvertTo-Frequency 1000000), (ConvertTo-Frequency 1000000 -VcpuId 2)
            }
            $observed.Output.VcpuId | Should-BeCollection 0, 2
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] VcpuNotFound ObjectNotFound 'web01-new vCPU 1' 'no frequency of vCPU 1' 'Get-KvmTscFrequency'
        }

        It 'is <What>' -ForEach @(
            @{ What = 'an offset out of the range of 64 bits'; Arguments = @{ OffsetTicks = '9223372036854775808' }; Id = 'ParameterArgumentTransformationError|CannotConvertArgument' }
            @{ What = 'a negative vCPU id'; Arguments = @{ VcpuId = -1 }; Id = 'ParameterArgumentValidationError' }
            @{ What = 'a text as a clock'; Arguments = @{ Source = 'web01' }; Id = 'ParameterArgumentTransformationError' }
            @{ What = 'an object that is no clock'; Arguments = @{ Source = [pscustomobject] @{ Name = 'web01' } }; Id = 'ParameterArgumentTransformationError' }
            @{ What = 'a clock whose value is no number'; Arguments = @{ Source = [pscustomobject] @{ ClockNanoseconds = 'late'; HostTsc = 1; Flags = 14; ProcessId = 1; StoppedMicroseconds = 0 } }; Id = 'ParameterArgumentTransformationError' }
            @{ What = 'a clock without its value'; Arguments = @{ Source = [pscustomobject] @{ VMName = 'web01'; HostTsc = 1 } }; Id = 'ParameterArgumentTransformationError' }
            @{ What = 'no frequency at all'; Arguments = @{ Frequency = @() }; Id = 'ParameterArgumentValidationError' }
        ) {
            $all = @{ VcpuId = 0; OffsetTicks = 0; Source = ConvertTo-Clock 0 0; Destination = ConvertTo-Clock 0 0; Frequency = ConvertTo-Frequency 1000000 }
            foreach ($name in $Arguments.Keys) {
                $all[$name] = $Arguments[$name]
            }
            $observed = Invoke-Observed { Resolve-KvmTscOffset @all }
            $observed.Output | Should-BeCollection @()
            $observed.Terminating.FullyQualifiedErrorId | Should-MatchString "^($Id)"
        }
    }
}
