BeforeAll {
    . "$PSScriptRoot/Common.ps1"
}

Describe 'Import-KvmTscState' {
    BeforeAll {
        $script:folder = (New-Item (Join-Path $TestDrive states) -ItemType Directory).FullName
        'web01', 'web02', 'db[1]' | ForEach-Object { Get-SampleState $_ } | Export-KvmTscState $folder
        $script:text = Get-Content "$folder/web01.json" -Raw
    }

    It 'writes the states that were exported' {
        $state = Import-KvmTscState "$folder/web01.json"
        $state | Should-HaveType ([KvmTsc.Migration.KvmTscState])
        ConvertTo-Json $state -Depth 4 | Should-Be (ConvertTo-Json (Get-SampleState web01) -Depth 4)
    }

    It 'takes <Form>' -ForEach @(
        @{ Form = 'names'; Script = { Import-KvmTscState "$folder/web02.json", "$folder/web01.json" }; Expected = 'web02', 'web01' }
        @{ Form = 'patterns'; Script = { Import-KvmTscState "$folder/w*.json" }; Expected = 'web01', 'web02' }
        @{ Form = 'names in the pipeline'; Script = { "$folder/web02.json", "$folder/web01.json" | Import-KvmTscState }; Expected = 'web02', 'web01' }
        @{ Form = 'files of Get-ChildItem'; Script = { Get-ChildItem $folder | Sort-Object Name | Import-KvmTscState }; Expected = 'db[1]', 'web01', 'web02' }
        @{ Form = 'files of .NET'; Script = { [IO.FileInfo] "$folder/db[1].json" | Import-KvmTscState }; Expected = @('db[1]') }
        @{ Form = 'names as they are'; Script = { Import-KvmTscState -LiteralPath "$folder/db[1].json" }; Expected = @('db[1]') }
        @{ Form = 'relative names'; Script = { Import-KvmTscState web01.json, ./web02.json }; Expected = 'web01', 'web02' }
    ) {
        Push-Location $folder
        try {
            $observed = Invoke-Observed $Script
        }
        finally {
            Pop-Location
        }
        $observed.Errors | Should-BeCollection @()
        @($observed.Output | ForEach-Object VMName) | Should-BeCollection $Expected
    }

    It 'takes a symbolic link to a file' {
        $null = New-Item "$TestDrive/latest.json" -ItemType SymbolicLink -Target "$folder/web01.json"
        (Import-KvmTscState "$TestDrive/latest.json").VMName | Should-Be web01
    }

    It 'refuses <Name>, says why, and goes on with the next file' -ForEach @(
        @{ Name = 'a document that was cut off'; Change = { $text.Substring(0, 500) }; Id = 'StateDocumentInvalid'; Message = 'cut off, at line 1\d, byte \d' }
        @{ Name = 'a document that was altered'; Change = { $text -replace '4711:12', '4711:13' }; Id = 'StateDocumentInvalid'; Message = 'altered after it was written' }
        @{ Name = 'a member that is not known'; Change = { $text -replace '"vmm"', '"extra": 1, "vmm"' }; Id = 'StateDocumentInvalid'; Message = 'at state, it has "extra"' }
        @{ Name = 'a member that stands twice'; Change = { $text -replace '"vmm"', '"vmName": null, "vmm"' }; Id = 'StateDocumentInvalid'; Message = 'no JSON' }
        @{ Name = 'a number that a tool rounded'; Change = { $text -replace '"9007199254740993"', '9007199254740992' }; Id = 'StateDocumentInvalid'; Message = 'at state.hostTsc, 9007199254740992 is not a decimal integer' }
        @{ Name = 'an unknown version'; Change = { $text -replace '"version": 2', '"version": 3' }; Id = 'StateVersionUnsupported'; Category = 'NotImplemented'; Message = 'version 3' }
        @{ Name = 'another document'; Change = { '{"a": 1}' }; Id = 'StateDocumentInvalid'; Message = 'no format' }
        @{ Name = 'an empty file'; Change = { '' }; Id = 'StateDocumentInvalid'; Message = 'cut off' }
    ) {
        $file = Join-Path $TestDrive wrong.json
        [IO.File]::WriteAllText($file, (& $Change))
        $observed = Invoke-Observed { Import-KvmTscState $file, "$folder/web02.json" }
        $observed.Output.VMName | Should-BeCollection @('web02')
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] $Id ($_.ContainsKey('Category') ? $Category : 'InvalidData') $file $Message
    }

    It 'reports <Path>, which is no file that can be read' -ForEach @(
        @{ Path = '{0}/nobody.json'; Id = 'FileNotFound'; Category = 'ObjectNotFound'; Message = 'no file'; Action = 'Get-ChildItem' }
        @{ Path = '{0}/x*.json'; Id = 'PathUnsupported'; Category = 'InvalidArgument'; Message = 'Nothing fits'; Action = 'path of a file' }
        @{ Path = '{0}'; Id = 'FileReadFailed'; Category = 'ReadError'; Message = 'no regular file'; Action = 'Get-Item' }
        @{ Path = '/dev/zero'; Id = 'FileReadFailed'; Category = 'ReadError'; Message = 'no regular file'; Action = 'Get-Item' }
        @{ Path = '{0}/web{1}.json'; Id = 'PathUnsupported'; Category = 'InvalidArgument'; Message = 'names no file'; Action = 'path of a file' }
        @{ Path = 'Env:/PATH'; Id = 'PathUnsupported'; Category = 'InvalidArgument'; Message = 'provider Environment'; Action = 'path of a file' }
        @{ Path = 'Env:/*'; Id = 'PathUnsupported'; Category = 'InvalidArgument'; Message = 'provider Environment'; Action = 'path of a file' }
    ) {
        $wrong = $Path -f $folder, [char] 0
        $observed = Invoke-Observed { $wrong, "$folder/web02.json" | Import-KvmTscState }
        $observed.Output.VMName | Should-BeCollection @('web02')
        Assert-KvmError $observed.Errors[0] $Id $Category $wrong $Message $Action
    }
}

Describe 'A state by file' -Tag Kvm {
    BeforeAll {
        Clear-VM
        $null = 'web01', 'live', 'byfile' | New-KvmVM -VcpuCount 3
        Set-KvmVcpuTscOffset web01 -9007199254740993
        Set-KvmClock web01 86400000000000
        $script:file = Join-Path $TestDrive web01.json
        $script:state = Save-KvmTscState web01
        $state | Export-KvmTscState $file
    }

    AfterAll {
        Clear-VM
    }

    It 'is the one that was captured, with all that explains it' {
        $copy = Import-KvmTscState $file
        ConvertTo-Json $copy -Depth 4 | Should-Be (ConvertTo-Json $state -Depth 4)
        $copy.Vmm | Should-Be (Get-KvmVM web01).Vmm
        $copy.ToolVersion | Should-Be "$((Get-Module KvmTsc).Version)"
        $copy.Host.MachineId | Should-Be ((Test-Path /etc/machine-id) ? (Get-Content /etc/machine-id -TotalCount 1) : $null)
        $copy.Host.ClockSynchronized | Should-Be (-not ($copy.Host.ClockStatus -band 64))
    }

    It 'gives the offsets of the live path, to the tick' {
        $live = Restore-KvmTscState live $state
        $byFile = Import-KvmTscState $file | Restore-KvmTscState byfile
        Get-KernelOffset byfile | Should-BeCollection -9007199254740993, -9007199254740993, -9007199254740993
        Get-KernelOffset byfile | Should-BeCollection (Get-KernelOffset live)
        $byFile.ResidualTicks | Should-Be 0
        $byFile.SourceClockNanoseconds | Should-Be $live.SourceClockNanoseconds
        "$($byFile.MeasuredBy)" | Should-Be HostTsc
    }
}
