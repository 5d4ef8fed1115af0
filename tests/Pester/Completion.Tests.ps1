BeforeAll {
    . "$PSScriptRoot/Common.ps1"
    function Get-Completion([string] $Line) {
        [System.Management.Automation.CommandCompletion]::CompleteInput($Line, $Line.Length, $null).CompletionMatches
    }
}

Describe 'Completion without VMs' {
    It 'offers the methods of <_>' -ForEach 'Invoke-KvmTscMigration', 'Restore-KvmTscState' {
        (Get-Completion "$_ -Method ").CompletionText | Should-BeCollection Best, Documented
    }

    It 'offers no file where a VM is wanted: <_>' -ForEach 'Get-KvmVM zzz', 'Get-KvmClock -Name zzz', 'Get-KvmClock -ProcessId 999999', 'Get-KvmVcpu zzz -VcpuId 999' {
        Get-Completion $_ | Should-BeCollection @()
    }
}

Describe 'Completion' -Tag Kvm {
    BeforeAll {
        Clear-VM
        $null = 'web01', 'web 02', 'it''s', '$db' | New-KvmVM
        $null = New-KvmVM big -VcpuCount 12
    }

    AfterAll {
        Clear-VM
    }

    It 'completes "<Line>" to <Expected>' -ForEach @(
        @{ Line = 'Get-KvmVM '; Expected = '''$db''', 'big', '''it''''s''', '''web 02''', 'web01' }
        @{ Line = 'Get-KvmVM -Name web'; Expected = '''web 02''', 'web01' }
        @{ Line = 'Get-KvmVM WEB0'; Expected = 'web01' }
        @{ Line = 'Get-KvmClock ''web '; Expected = '''web 02''' }
        @{ Line = 'Get-KvmClock "web'; Expected = '"web 02"', '"web01"' }
        @{ Line = 'Get-KvmClock "$'; Expected = '"`$db"' }
        @{ Line = 'Save-KvmTscState *0'; Expected = '''web 02''', 'web01' }
        @{ Line = 'Get-KvmVcpu it'; Expected = '''it''''s''' }
        @{ Line = 'Set-KvmClock -VM b'; Expected = 'big' }
        @{ Line = 'Remove-KvmVM bi'; Expected = 'big' }
        @{ Line = 'Invoke-KvmTscMigration bi'; Expected = 'big' }
        @{ Line = 'Invoke-KvmTscMigration big web0'; Expected = 'web01' }
        @{ Line = 'Repair-KvmMasterClock bi'; Expected = 'big' }
        @{ Line = 'Restore-KvmTscState bi'; Expected = 'big' }
        @{ Line = 'Test-KvmTscMigration bi'; Expected = 'big' }
        @{ Line = 'Test-KvmTscMigration big web0'; Expected = 'web01' }
        @{ Line = 'Test-KvmVcpuTscOffset -Name bi'; Expected = 'big' }
        @{ Line = 'Get-KvmVcpu big -VcpuId 1'; Expected = '1', '10', '11' }
        @{ Line = 'Get-KvmVcpu web01 -VcpuId '; Expected = '0' }
        @{ Line = 'Set-KvmVcpuTscOffset -VM web01, big -VcpuId 1'; Expected = '1', '10', '11' }
        @{ Line = 'Get-KvmVcpuTscOffset w* -VcpuId '; Expected = '0' }
        @{ Line = 'Test-KvmVcpuTscOffset -Name big -VcpuId 2'; Expected = '2' }
    ) {
        (Get-Completion $Line).CompletionText | Should-BeCollection @($Expected)
    }

    It 'completes the process that runs them, and tells their names' {
        $match = @(Get-Completion "Get-KvmClock -ProcessId $PID")
        $match.CompletionText | Should-BeCollection @("$PID")
        $match[0].ToolTip | Should-MatchString 'web01, web 02'
    }

    It 'completes to what selects the VM: <_>' -ForEach 'web 02', 'it''s', '$db' {
        $name = $_
        $completed = (Get-Completion 'Get-KvmVM ').CompletionText
        $selected = $completed | ForEach-Object { & ([scriptblock]::Create("Get-KvmVM $_")) }
        $selected.VMName -contains $name | Should-BeTrue
    }
}
