BeforeAll {
    . "$PSScriptRoot/Common.ps1"
}

Describe 'Export-KvmTscState' {
    BeforeEach {
        $script:folder = (New-Item (Join-Path $TestDrive ([guid]::NewGuid())) -ItemType Directory).FullName
        $script:file = Join-Path $folder web01.json
        $script:state = Get-SampleState web01
    }

    It 'writes a file that only its owner can read, and nothing to the pipeline' {
        $state | Export-KvmTscState $file | Should-BeCollection @()
        (Get-Item $file).UnixMode | Should-Be '-rw-------'
        Get-ChildItem $folder -Force -Name | Should-BeCollection @('web01.json')
        ConvertTo-Json (Import-KvmTscState $file) -Depth 4 | Should-Be (ConvertTo-Json $state -Depth 4)
    }

    It 'writes what any JSON tool can read without rounding' {
        Export-KvmTscState $file $state
        $document = Get-Content $file -Raw | ConvertFrom-Json
        $document.format, $document.version | Should-BeCollection KvmTscState, 2
        $document.state.clockNanoseconds | Should-Be '18446744073709551615'
        $document.state.hostTsc | Should-Be '9007199254740993'
        $document.state.vcpus[1].offsetTicks | Should-Be '-9223372036854775807'
        $document.state.host.bootId | Should-Be $state.Host.BootId
        # Through such a tool and back.
        $document | ConvertTo-Json -Depth 9 | Set-Content $file
        ConvertTo-Json (Import-KvmTscState $file) -Depth 4 | Should-Be (ConvertTo-Json $state -Depth 4)
    }

    It 'takes a state that came back from a job' {
        Copy-Deserialized $state | Export-KvmTscState $file
        ConvertTo-Json (Import-KvmTscState $file) -Depth 4 | Should-Be (ConvertTo-Json $state -Depth 4)
    }

    It 'gives each state in a directory a file named after its VM, and writes the files with -PassThru' {
        $files = $state, (Get-SampleState web02) | Export-KvmTscState $folder -PassThru
        $files | Should-All { $_ -is [IO.FileInfo] }
        $files.FullName | Should-BeCollection "$folder/web01.json", "$folder/web02.json"
        ($files | Import-KvmTscState).VMName | Should-BeCollection web01, web02
    }

    It 'keeps the file of a VM named <Name> in the directory, as <Expected>' -ForEach @(
        @{ Name = '../../web01'; Expected = '_.._.._web01.json' }
        @{ Name = '..'; Expected = '_...json' }
        @{ Name = '.hidden'; Expected = '_.hidden.json' }
        @{ Name = "a`nb"; Expected = 'a_b.json' }
        @{ Name = 'web[1]* ?'; Expected = 'web[1]* ?.json' }
    ) {
        (Get-SampleState $Name | Export-KvmTscState $folder -PassThru).Name | Should-Be $Expected
        Get-ChildItem $folder -Force -Name | Should-BeCollection @($Expected)
        (Get-ChildItem $folder | Import-KvmTscState).VMName | Should-Be $Name
    }

    It 'wants the name of a file for a state that names no VM' {
        $observed = Invoke-Observed { Get-SampleState '' | Export-KvmTscState $folder }
        Assert-KvmError $observed.Errors[0] InvalidValue InvalidData $folder 'which VM' 'name of a file'
    }

    It 'replaces a file only with -Force' {
        Set-Content $file precious
        $observed = Invoke-Observed { $state | Export-KvmTscState $file }
        Assert-KvmError $observed.Errors[0] FileExists ResourceExists $file 'already' '-Force'
        Get-Content $file | Should-Be precious
        $state | Export-KvmTscState $file -Force
        (Import-KvmTscState $file).VMName | Should-Be web01
        (Get-Item $file).UnixMode | Should-Be '-rw-------'
    }

    It 'writes no second state to one file, with and without -Force' -ForEach @(
        @{ Force = $false }
        @{ Force = $true }
    ) {
        $observed = Invoke-Observed { $state, (Get-SampleState web02) | Export-KvmTscState $file -Force:$Force }
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] FileExists ResourceExists $file 'the state of web02 is not written' 'directory'
        (Import-KvmTscState $file).VMName | Should-Be web01
    }

    It 'reports what goes wrong with one state, and goes on with the next' {
        $wrong = Copy-Deserialized $state
        $wrong.RealtimeNanoseconds = 0
        $observed = Invoke-Observed { $wrong, (Get-SampleState web02) | Export-KvmTscState $folder }
        Assert-KvmError $observed.Errors[0] InvalidValue InvalidData $file 'no CLOCK_REALTIME' 'Save-KvmTscState'
        Get-ChildItem $folder -Force -Name | Should-BeCollection @('web02.json')
    }

    It 'knows relative paths, the drives of PowerShell, and patterns that fit one directory' {
        $null = New-PSDrive -Name states -PSProvider FileSystem -Root $folder -Scope Script
        Push-Location $folder
        try {
            $state | Export-KvmTscState one.json
            $state | Export-KvmTscState states:/two.json
            $state | Export-KvmTscState -LiteralPath '[3].json'
            $state | Export-KvmTscState "$(Split-Path $folder)/$((Split-Path $folder -Leaf) -replace '.$', '?')"
        }
        finally {
            Pop-Location
            Remove-PSDrive states -Scope Script
        }
        Get-ChildItem $folder -Name | Sort-Object | Should-BeCollection '[3].json', 'one.json', 'two.json', 'web01.json'
    }

    It 'refuses the path <Path>: <Message>' -ForEach @(
        @{ Path = 'Env:/web01'; Id = 'PathUnsupported'; Category = 'InvalidArgument'; Message = 'provider Environment'; Target = 'Env:/web01' }
        @{ Path = 'nodrive:/web01'; Id = 'PathUnsupported'; Category = 'InvalidArgument'; Message = 'nodrive'; Target = 'nodrive:/web01' }
        @{ Path = '{0}/x*'; Id = 'PathUnsupported'; Category = 'InvalidArgument'; Message = 'Nothing fits'; Target = '{0}/x*' }
        @{ Path = '{0}/y?'; Id = 'PathUnsupported'; Category = 'InvalidArgument'; Message = 'fits 2 files'; Target = '{0}/y?' }
        @{ Path = '{0}/nowhere/web01.json'; Id = 'FileNotFound'; Category = 'ObjectNotFound'; Message = 'no directory {0}/nowhere'; Target = '{0}/nowhere/web01.json' }
        @{ Path = '{0}/nowhere/'; Id = 'FileNotFound'; Category = 'ObjectNotFound'; Message = 'no directory {0}/nowhere'; Target = '{0}/nowhere/web01.json' }
        @{ Path = '/proc/sys/web01.json'; Id = 'FileWriteFailed'; Category = 'WriteError'; Message = 'cannot be written'; Target = '/proc/sys/web01.json' }
    ) {
        $null = New-Item "$folder/y1", "$folder/y2"
        $observed = Invoke-Observed { $state | Export-KvmTscState ($Path -f $folder) -Force }
        Assert-KvmError $observed.Errors[0] $Id $Category ($Target -f $folder) ($Message -f $folder)
        Get-ChildItem $folder -Force -Name | Should-BeCollection y1, y2
    }

    It 'neither follows nor replaces a symbolic link' {
        Set-Content "$folder/victim" precious
        $null = New-Item $file -ItemType SymbolicLink -Target "$folder/victim"
        $observed = Invoke-Observed { $state | Export-KvmTscState $file -Force }
        Assert-KvmError $observed.Errors[0] FileWriteFailed WriteError $file 'no regular file'
        Get-Content "$folder/victim" | Should-Be precious
        (Get-Item $file).LinkTarget | Should-Be "$folder/victim"
    }

    It 'says with -WhatIf what would be written or replaced, and writes nothing' {
        $state | Export-KvmTscState $file
        $before = Get-FileHash $file
        $observed = Invoke-Interactive "Import-KvmTscState '$file' | Export-KvmTscState '$folder/new.json' -WhatIf; Import-KvmTscState '$file' | Export-KvmTscState '$file' -Force -WhatIf"
        $observed.Lines | Should-BeCollection @(
            "What if: Performing the operation `"Write the TSC state of web01`" on target `"$folder/new.json`"."
            "What if: Performing the operation `"Replace the file by the TSC state of web01`" on target `"$file`"."
        )
        $refused = Invoke-Interactive "Import-KvmTscState '$file' | Export-KvmTscState '$file' -WhatIf"
        $refused.Errors[0].FullyQualifiedErrorId | Should-BeLikeString 'FileExists,*'
        Get-ChildItem $folder -Force -Name | Should-BeCollection @('web01.json')
        (Get-FileHash $file).Hash | Should-Be $before.Hash
    }

    It 'asks with -Confirm, and <Count> files are there when the answer is <Answer>' -ForEach @(
        @{ Answer = 'No'; Count = 1 }
        @{ Answer = 'Yes'; Count = 2 }
    ) {
        $state | Export-KvmTscState $file
        $observed = Invoke-Interactive "Import-KvmTscState '$file' | Export-KvmTscState '$folder/new.json' -Confirm" $Answer
        $observed.Questions | Should-BeCollection -Count 1
        @(Get-ChildItem $folder -Force).Count | Should-Be $Count
    }
}

Describe 'Export-KvmTscState to a file system that takes nothing' -Tag Kvm {
    BeforeAll {
        # PowerShell's own Remove-Item of $TestDrive cannot remove what is mounted.
        $script:folder = (New-Item (Join-Path $TestDrive full) -ItemType Directory).FullName
        mount -t tmpfs -o size=4k none $folder
        [IO.File]::WriteAllBytes("$folder/filler", [byte[]]::new(4096))
    }

    AfterAll {
        umount $folder
    }

    It 'reports a full one, and leaves nothing' {
        $observed = Invoke-Observed { Get-SampleState web01 | Export-KvmTscState $folder }
        Assert-KvmError $observed.Errors[0] FileWriteFailed WriteError "$folder/web01.json" 'No space left on device' 'has room'
        Get-ChildItem $folder -Force -Name | Should-BeCollection @('filler')
    }

    It 'reports a full one, and leaves what was there' {
        Remove-Item "$folder/filler"
        Get-SampleState old | Export-KvmTscState "$folder/web01.json"
        $observed = Invoke-Observed { Get-SampleState web01 | Export-KvmTscState $folder -Force }
        Assert-KvmError $observed.Errors[0] FileWriteFailed WriteError "$folder/web01.json" 'No space left on device'
        (Import-KvmTscState "$folder/web01.json").VMName | Should-Be old
        Get-ChildItem $folder -Force -Name | Should-BeCollection @('web01.json')
    }

    It 'reports one that is read-only' {
        mount -o remount,ro $folder
        $observed = Invoke-Observed { Get-SampleState web02 | Export-KvmTscState $folder }
        Assert-KvmError $observed.Errors[0] FileWriteFailed WriteError "$folder/web02.json" 'Read-only file system'
    }
}
