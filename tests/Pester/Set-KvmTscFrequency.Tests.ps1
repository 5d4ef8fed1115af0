Describe 'Set-KvmTscFrequency' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:kvmHost = Get-KvmHost
        $script:kHz = $kvmHost.TscKHz
    }

    BeforeEach {
        $null = 'web01', 'web02' | New-KvmVM -VcpuCount 2
    }

    AfterEach {
        Clear-VM
    }

    It 'sets the frequency of every vCPU, and writes nothing to the pipeline' {
        Set-KvmTscFrequency web01 ($kHz + 100) | Should-BeNull
        (Get-KvmTscFrequency web01).TscKHz | Should-BeCollection ($kHz + 100), ($kHz + 100)
        (Get-KvmTscFrequency web02).TscKHz | Should-BeCollection $kHz, $kHz
    }

    It 'sets that of the vCPUs that are named' {
        Set-KvmTscFrequency web01 ($kHz - 50) -VcpuId 1
        (Get-KvmTscFrequency web01).TscKHz | Should-BeCollection $kHz, ($kHz - 50)
    }

    It 'gives the frequencies, read back, with -PassThru' {
        $frequencies = Set-KvmTscFrequency web01 ($kHz + 7) -PassThru
        $frequencies | Should-All { $_ -is [KvmTsc.Clocks.KvmTscFrequency] -and $_.TscKHz -eq $kHz + 7 -and $_.HostTscKHz -eq $kHz }
        $frequencies.VcpuId | Should-BeCollection 0, 1
    }

    It 'gives a VM the frequencies of another, piped, also those that came back from a job' {
        Set-KvmTscFrequency web01 ($kHz + 60)
        Get-KvmTscFrequency web01 | Set-KvmTscFrequency -VM web02
        (Get-KvmTscFrequency web02).TscKHz | Should-BeCollection ($kHz + 60), ($kHz + 60)
        Set-KvmTscFrequency web02 $kHz
        Copy-Deserialized (Get-KvmTscFrequency web01) | Set-KvmTscFrequency -VM (Copy-Deserialized (Get-KvmVM web02))
        (Get-KvmTscFrequency web02).TscKHz | Should-BeCollection ($kHz + 60), ($kHz + 60)
    }

    It 'leaves the offsets alone' {
        Set-KvmVcpuTscOffset web01 -777
        Set-KvmTscFrequency web01 ($kHz + 100)
        Get-KernelOffset web01 | Should-BeCollection -777, -777
    }

    It 'gives <Name> where the CPU scales, and refuses it elsewhere, with -WhatIf too' -ForEach @(
        @{ Name = 'half the host''s frequency'; Factor = 0.5; Message = 'slower than'; Action = 'within \d+ ppm' }
        @{ Name = 'twice the host''s frequency'; Factor = 2; Message = 'faster than'; Action = '-Force' }
    ) {
        $wanted = [uint] ($Factor * ($kHz - $kHz % 2))
        $observed = Invoke-Observed { Set-KvmTscFrequency web01, nobody, web02 $wanted }
        if ($kvmHost.HasTscScaling) {
            (Get-KvmTscFrequency web0*).TscKHz | Should-BeCollection $wanted, $wanted, $wanted, $wanted
            (Get-KvmTscFrequency web01)[0].ScalingRatio | Should-Be ([math]::Floor([bigint]::Pow(2, $kvmHost.TscScalingFractionBits) * $wanted / $kHz))
        }
        else {
            $observed.Errors | Should-BeCollection -Count 3
            Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound nobody
            Assert-KvmError $observed.Errors[1] FrequencyUnsupported InvalidArgument web01 "$wanted kHz is $Message" $Action
            Assert-KvmError $observed.Errors[2] FrequencyUnsupported InvalidArgument web02 "$wanted kHz is $Message" $Action
            (Get-KvmTscFrequency web0*).TscKHz | Should-BeCollection $kHz, $kHz, $kHz, $kHz
            $preview = Invoke-Observed { Set-KvmTscFrequency web01 $wanted -WhatIf }
            Assert-KvmError $preview.Errors[0] FrequencyUnsupported InvalidArgument web01 "$wanted kHz is $Message" $Action
        }
    }

    It 'takes a frequency above the host''s with -Force, which KVM then chases' {
        Set-KvmTscFrequency web01 (2 * $kHz) -Force
        (Get-KvmTscFrequency web01).TscKHz | Should-BeCollection (2 * $kHz), (2 * $kHz)
    }

    It 'refuses what is no frequency: <_>' -ForEach 0, -1, 4294967296 {
        { Set-KvmTscFrequency web01 $_ } | Should-Throw -FullyQualifiedErrorId '*Argument*'
        (Get-KvmTscFrequency web01).TscKHz | Should-BeCollection $kHz, $kHz
    }

    It 'says with -WhatIf what would become of the frequency, and changes nothing' {
        $observed = Invoke-Interactive "Set-KvmTscFrequency web01 $($kHz + 100) -WhatIf -PassThru"
        $observed.Output | Should-BeCollection @()
        $observed.Lines[0] | Should-MatchString "Set the TSC frequency from $kHz kHz to $($kHz + 100) kHz`" on target `"vCPU 0-1 of web01 \(process $PID\)"
        (Get-KvmTscFrequency web01).TscKHz | Should-BeCollection $kHz, $kHz
    }

    It 'asks with -Confirm, and <Change> the frequency when the answer is <Answer>' -ForEach @(
        @{ Answer = 'No'; Change = 'leaves'; Added = 0 }
        @{ Answer = 'Yes'; Change = 'sets'; Added = 100 }
    ) {
        $observed = Invoke-Interactive "Set-KvmTscFrequency web01 $($kHz + 100) -Confirm" $Answer
        $observed.Questions | Should-BeCollection -Count 1
        (Get-KvmTscFrequency web01).TscKHz | Should-BeCollection ($kHz + $Added), ($kHz + $Added)
    }
}
