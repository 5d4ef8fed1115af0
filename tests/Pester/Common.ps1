# What the test files share. Each of them dot-sources it in BeforeAll.
if (-not (Get-Module KvmTsc)) {
    Import-Module "$PSScriptRoot/../../out/KvmTsc/KvmTsc.psd1"
}

# The manifest: a module whose root is an assembly gives that as its path.
function Get-ManifestPath {
    Join-Path (Get-Module KvmTsc).ModuleBase KvmTsc.psd1
}

# The VMs of the file before, should it have left any.
function Clear-VM {
    Get-KvmVM -ProcessId $PID -ErrorAction Ignore | Remove-KvmVM
}

# The independent witness: where the kernel's debugfs shows a VM of this process.
function Get-KernelDirectory([string] $VMId) {
    $processId, $descriptor = $VMId -split ':'
    $directories = @(Get-ChildItem "/proc/$processId/task" -Name | ForEach-Object { "/sys/kernel/debug/kvm/$_-$descriptor" } | Where-Object { Test-Path $_ })
    if ($directories.Count -ne 1) {
        throw "debugfs shows $($directories.Count) VMs with the id $VMId."
    }
    $directories[0]
}

# The TSC offsets of a VM's vCPUs, in their order, as debugfs shows them.
function Get-KernelOffset([string] $Name) {
    $directory = Get-KernelDirectory (Get-KvmVM $Name).VMId
    Get-ChildItem $directory -Filter 'vcpu*' -Name | Sort-Object { [int] $_.Substring(4) } | ForEach-Object {
        [long] [IO.File]::ReadAllText("$directory/$_/tsc-offset")
    }
}

# How many VMs of this process the kernel knows.
function Get-KernelVMCount {
    @(Get-ChildItem "/proc/$PID/fd" | Where-Object { $_.LinkTarget -eq 'anon_inode:kvm-vm' }).Count
}

# An object as it comes back from a job or a remote session.
function Copy-Deserialized([object] $InputObject) {
    [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($InputObject))
}

# What a command wrote, the errors that let it go on, and the one that ended it. The script sees the variables of its caller, so these have
# names that no caller has.
function Invoke-Observed([scriptblock] $ObservedScript) {
    $ErrorActionPreference = 'Continue'
    $observedEnd = $null
    $observedAll = @(try { & $ObservedScript 2>&1 } catch { $observedEnd = $_ })
    [pscustomobject] @{
        Output      = @($observedAll | Where-Object { $_ -isnot [System.Management.Automation.ErrorRecord] })
        Errors      = @($observedAll | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] })
        Terminating = $observedEnd
    }
}

# An error of ours has an id, a category, a target, and says what to do.
function Assert-KvmError([object] $ErrorRecord, [string] $Id, [string] $Category, [string] $Target, [string] $Message = '', [string] $Action = '') {
    $ErrorRecord | Should-HaveType ([System.Management.Automation.ErrorRecord])
    $ErrorRecord.FullyQualifiedErrorId -split ',' | Select-Object -First 1 | Should-Be $Id
    "$($ErrorRecord.CategoryInfo.Category)" | Should-Be $Category
    "$($ErrorRecord.TargetObject)" | Should-Be $Target
    "$ErrorRecord" | Should-MatchString $Message
    $ErrorRecord.ErrorDetails.RecommendedAction | Should-NotBeWhiteSpaceString
    $ErrorRecord.ErrorDetails.RecommendedAction | Should-MatchString $Action
}

# What a session of this process starts with: the module.
function Get-InitialState {
    $state = [initialsessionstate]::CreateDefault2()
    $state.ImportPSModule((Get-ManifestPath))
    $state
}

# A session of this process whose user answers every question alike.
function Get-InteractiveSession {
    $session = Get-Runspace -Name Interactive
    if (-not $session) {
        $recordingHost = & "$PSScriptRoot/RecordingHost.ps1"
        $session = [runspacefactory]::CreateRunspace($recordingHost, (Get-InitialState))
        $session.Name = 'Interactive'
        $session.ThreadOptions = 'UseCurrentThread'
        $session.Open()
        $session.SessionStateProxy.SetVariable('Recording', $recordingHost.Recording)
    }
    $session
}

# Another session of this process.
function Open-LocalSession([string] $Name = 'Another') {
    $session = [runspacefactory]::CreateRunspace((Get-InitialState))
    $session.Name = $Name
    $session.Open()
    $session
}

# One for what goes on beside a test, one that is free if there is one: a new one takes a second of an emulated host.
function Get-SessionBeside {
    (Get-Runspace -Name Beside | Where-Object RunspaceAvailability -EQ Available | Select-Object -First 1) ?? (Open-LocalSession Beside)
}

# Runs a script in the interactive one. What -WhatIf says is in Lines, what was asked in Questions.
function Invoke-Interactive([string] $Script, [string] $Answer = '') {
    $shell = [powershell]::Create((Get-InteractiveSession))
    $recording = $shell.Runspace.SessionStateProxy.GetVariable('Recording')
    $recording.Answer = $Answer
    $recording.Lines.Clear()
    $recording.Questions.Clear()
    $terminating = $null
    $output = @(try { $shell.AddScript($Script).Invoke() } catch { $terminating = $_.Exception.InnerException.ErrorRecord })
    [pscustomobject] @{
        Output      = $output
        Errors      = @($shell.Streams.Error)
        Terminating = $terminating
        Questions   = @($recording.Questions)
        Lines       = @($recording.Lines)
    }
    $shell.Dispose()
}

# A state as if it were captured elsewhere, with numbers that many JSON tools round.
function Get-SampleState([string] $Name, [long] $OffsetTicks = -9223372036854775807, [ulong] $ClockNanoseconds = [ulong]::MaxValue) {
    $vcpus = 0, 2 | ForEach-Object { [KvmTsc.Migration.KvmVcpuTscState]::new($_, $OffsetTicks, 2096026, 281474976710656, 48) }
    $machine = [KvmTsc.Hosts.KvmHostIdentity]::new('kvm1', '0123456789abcdef0123456789abcdef', 'bdb1f63e-b352-4a2c-acff-c37667ecdc2e', '6.1.0', 2096026, 8193, 4000, -12.5, 37)
    [KvmTsc.Migration.KvmTscState]::new($Name, 4711, '4711:12', 'qemu-system-x86_64', $ClockNanoseconds, 1795345054890864385, 9007199254740993, $vcpus, $machine, 512.25, '0.1.0')
}

# A host as if Get-KvmHost had described it elsewhere.
function Get-SampleHost([string] $Name, [uint] $TscKHz = 2096026, [int] $FractionBits = 0) {
    [KvmTsc.Hosts.KvmHostInformation]::new(
        $Name, '6.1.0', "boot of $Name", $FractionBits -eq 48 ? 'kvm_intel' : 'kvm_amd', 12, 1024, $true, 14, $true, $true, 'tsc', $TscKHz, $FractionBits, 250, @('rdtscp'),
        $true, 4000, 10, -12.5, 37, $null, $false)
}

# An object as it comes back from a session, a file of Export-Clixml, and a file of ConvertTo-Json.
function Copy-Everyhow([object] $InputObject) {
    Copy-Deserialized $InputObject
    $file = Join-Path $TestDrive copy.xml
    $InputObject | Export-Clixml $file
    Import-Clixml $file
    $InputObject | ConvertTo-Json | ConvertFrom-Json
}
