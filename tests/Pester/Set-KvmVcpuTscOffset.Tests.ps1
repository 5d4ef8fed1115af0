Describe 'Set-KvmVcpuTscOffset' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
    }

    BeforeEach {
        $null = 'web01', 'web02' | New-KvmVM -VcpuCount 2
        Set-KvmVcpuTscOffset web0* -1000
    }

    AfterEach {
        Clear-VM
    }

    It 'writes the offset of every vCPU, and nothing to the pipeline' {
        Set-KvmVcpuTscOffset web01 -5000000000 | Should-BeNull
        Get-KernelOffset web01 | Should-BeCollection -5000000000, -5000000000
        Get-KernelOffset web02 | Should-BeCollection -1000, -1000
    }

    It 'writes <_>, an end of the range' -ForEach ([long]::MinValue), ([long]::MaxValue) {
        Set-KvmVcpuTscOffset web01 $_
        Get-KernelOffset web01 | Should-BeCollection $_, $_
    }

    It 'gives the offsets, read back, with -PassThru' {
        $offsets = Set-KvmVcpuTscOffset web01 77 -PassThru
        $offsets | Should-All { $_ -is [KvmTsc.Clocks.KvmVcpuTscOffset] -and $_.OffsetTicks -eq 77 -and $_.VMName -eq 'web01' }
        $offsets.VcpuId | Should-BeCollection 0, 1
    }

    It 'writes the offsets of several VMs' {
        Get-KvmVM web0* | Set-KvmVcpuTscOffset -OffsetTicks 88
        Get-KernelOffset web01 | Should-BeCollection 88, 88
        Get-KernelOffset web02 | Should-BeCollection 88, 88
    }

    It 'gives a VM the offsets of another, piped, also those that came back from a job' {
        Set-KvmVcpuTscOffset web01 99
        Get-KvmVcpuTscOffset web01 | Set-KvmVcpuTscOffset -VM web02
        Get-KernelOffset web02 | Should-BeCollection 99, 99
        Set-KvmVcpuTscOffset web02 5
        Copy-Deserialized (Get-KvmVcpuTscOffset web01) | Set-KvmVcpuTscOffset -VM (Copy-Deserialized (Get-KvmVM web02))
        Get-KernelOffset web02 | Should-BeCollection 99, 99
    }

    It 'gives each VM its own offsets back when they are piped' {
        Set-KvmVcpuTscOffset web02 -2000
        $offsets = Get-KvmVcpuTscOffset web0*
        Set-KvmVcpuTscOffset web0* 7
        $offsets | Set-KvmVcpuTscOffset
        Get-KernelOffset web01 | Should-BeCollection -1000, -1000
        Get-KernelOffset web02 | Should-BeCollection -2000, -2000
    }

    It 'lets vCPUs differ with -Force, and turns the master clock on again when all have one offset' {
        Set-KvmVcpuTscOffset web01 -VcpuId 1 -OffsetTicks 5000 -Force
        Get-KernelOffset web01 | Should-BeCollection -1000, 5000
        $null = Test-KvmVcpuTscOffset -Name web01
        "$((Get-KvmClock web01).Flags)" | Should-Be 'None'
        Set-KvmVcpuTscOffset web01 5000
        $null = Test-KvmVcpuTscOffset -Name web01
        "$((Get-KvmClock web01).Flags)" | Should-Be 'TscStable, Realtime, HostTsc'
    }

    Context 'what it refuses: <Name>' -ForEach @(
        @{
            Name = 'offsets that differ'; Arguments = @{ VcpuId = 1; OffsetTicks = 5000 }; Id = 'UnequalOffsets'; Category = 'InvalidOperation'
            Target = 'web01'; Message = '2 different TSC offsets'; Action = 'name none of them'
        }
        @{
            Name = 'to take a guest that has run back in time'; Arguments = @{ OffsetTicks = -1001 }; Id = 'GuestTscBackwards'; Category = 'InvalidOperation'
            Target = 'web01 vCPU 0'; Message = 'would go back by 1 ticks'; Action = '-Force'
        }
        @{
            Name = 'a vCPU that does not exist'; Arguments = @{ VcpuId = 0, 7; OffsetTicks = 5 }; Id = 'VcpuNotFound'; Category = 'ObjectNotFound'
            Target = 'web01 vCPU 7'; Message = 'no vCPU 7'; Action = 'Get-KvmVcpu'
        }
    ) {
        BeforeEach {
            $null = Test-KvmVcpuTscOffset -Name web01
        }

        It 'with an error, and nothing changes' {
            $observed = Invoke-Observed { Set-KvmVcpuTscOffset -Name web01 @Arguments }
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] $Id $Category $Target $Message $Action
            Get-KernelOffset web01 | Should-BeCollection -1000, -1000
        }

        It 'with -WhatIf too' {
            $observed = Invoke-Observed { Set-KvmVcpuTscOffset -Name web01 @Arguments -WhatIf }
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] $Id $Category $Target $Message $Action
        }
    }

    It 'writes what others get when one VM is refused' {
        $null = Test-KvmVcpuTscOffset -Name web01
        $observed = Invoke-Observed { Set-KvmVcpuTscOffset web01, web02 -2000 }
        $observed.Errors.FullyQualifiedErrorId | Should-BeCollection @('GuestTscBackwards,KvmTsc.PowerShell.Commands.SetKvmVcpuTscOffsetCommand')
        Get-KernelOffset web01 | Should-BeCollection -1000, -1000
        Get-KernelOffset web02 | Should-BeCollection -2000, -2000
    }

    It 'takes a guest that has run back in time with -Force' {
        $null = Test-KvmVcpuTscOffset -Name web01
        Set-KvmVcpuTscOffset web01 -2000 -Force
        Get-KernelOffset web01 | Should-BeCollection -2000, -2000
    }

    It 'refuses two offsets for one vCPU: that VM gets neither, others get theirs' {
        $values = @{ VMName = 'web01'; OffsetTicks = 5 }, @{ VMName = 'web01'; OffsetTicks = 6 }, @{ VMName = 'web02'; OffsetTicks = 7 }
        $observed = Invoke-Observed { $values | ForEach-Object { [pscustomobject] $_ } | Set-KvmVcpuTscOffset }
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] InvalidValue InvalidData 'web01 vCPU 0' 'given both 5 and 6' '-VcpuId'
        Get-KernelOffset web01 | Should-BeCollection -1000, -1000
        Get-KernelOffset web02 | Should-BeCollection 7, 7
    }

    It 'refuses what is no offset of 64 bits: <_>' -ForEach '9223372036854775808', '-9223372036854775809', 'much' {
        { Set-KvmVcpuTscOffset web01 $_ } | Should-Throw -FullyQualifiedErrorId 'CannotConvertArgument*'
        Get-KernelOffset web01 | Should-BeCollection -1000, -1000
    }

    It 'says with -WhatIf what would become of the offsets, and changes nothing' {
        $observed = Invoke-Interactive 'Set-KvmVcpuTscOffset web01 5 -WhatIf -PassThru; Set-KvmVcpuTscOffset web02 5 -VcpuId 1 -Force -WhatIf'
        $observed.Output | Should-BeCollection @()
        $observed.Lines | Should-BeCollection -Count 2
        $observed.Lines[0] | Should-MatchString "Set the TSC offset from -1000 to 5 ticks`" on target `"vCPU 0-1 of web01 \(process $PID\)"
        $observed.Lines[1] | Should-MatchString "on target `"vCPU 1 of web02 "
        Get-KernelOffset web01 | Should-BeCollection -1000, -1000
        Get-KernelOffset web02 | Should-BeCollection -1000, -1000
    }

    It 'asks with -Confirm once for each VM, and the offsets are <Expected> when the answer is <Answer>' -ForEach @(
        @{ Answer = 'No'; Expected = -1000 }
        @{ Answer = 'Yes'; Expected = 5 }
    ) {
        $observed = Invoke-Interactive 'Set-KvmVcpuTscOffset web0* 5 -Force -Confirm' $Answer
        $observed.Questions | Should-BeCollection -Count 2
        Get-KernelOffset web01 | Should-BeCollection $Expected, $Expected
        Get-KernelOffset web02 | Should-BeCollection $Expected, $Expected
    }
}
