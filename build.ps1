#Requires -Version 7.6
<#
.SYNOPSIS
Builds, tests and shows KvmTsc.
.DESCRIPTION
Build    stages an importable module with its help at out/KvmTsc/KvmTsc.psd1
Check    what takes no KVM host, in two minutes: build, engine, cmdlets on this machine, lint, help
Test     runs all tests: besides these, real kernel, cmdlets on a KVM host, QEMU guests, several hosts, harmlessness, the lab
Soak     proves that attaching does no harm: attaches 2,000 times, is killed 500 times, and stops QEMU guests in all ways
Matrix   tests on every kernel that Debian offers here, with each of what kernels allow writers of /proc/PID/mem; half an hour or more
Intel    tests on Intel's VMX with TSC scaling, which Bochs emulates, slowly
Bench    measures what each thing takes, beside its goal and the least that it could take; ten minutes
Demo     migrates a running QEMU guest on a real kernel, without and with KvmTsc, and pauses one, unwatched and watched; its own clocks tell what it cost
Lab      opens a shell with the module on a KVM host, an emulated one where this machine has no /dev/kvm
Docs     brings docs/help in line with the cmdlets, and the help that is built from it
Package  packs the module at out/packages: zip, NuGet, Debian, RPM
Release  does so, and tests the packages: built again elsewhere, installed, upgraded, removed
Clean    removes out
.EXAMPLE
./build.ps1 -Task Test
.EXAMPLE
./build.ps1 -Task Matrix -Only '6.12, never*'
.EXAMPLE
./build.ps1 -Task Bench -Only 'list-*'
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)]
    [ValidateSet('Build', 'Check', 'Test', 'Soak', 'Matrix', 'Intel', 'Bench', 'Demo', 'Lab', 'Docs', 'Package', 'Release', 'Clean')]
    [string] $Task = 'Build',

    # The tiers of tests to run, or the rows to measure, by their names in the table.
    [SupportsWildcards()]
    [string] $Only = '*'
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true
$env:POWERSHELL_TELEMETRY_OPTOUT = '1'
$env:POWERSHELL_UPDATECHECK = 'Off'

$Out = "$PSScriptRoot/out"
$Published = "$Out/artifacts/publish"
$Stage = "$Out/KvmTsc"
$Help = "$PSScriptRoot/docs/help"
$Modules = "$Out/modules"
$Results = "$Out/results"
$Packages = "$Out/packages"
$Lab = "$PSScriptRoot/lab/kvmlab"
$TestModules = @{ 'Pester' = '6.2.0'; 'Microsoft.PowerShell.PlatyPS' = '1.0.3'; 'PSScriptAnalyzer' = '1.25.0' }
$SecondsBetweenNews = 45
$TierPattern = $Only
$WithoutRandomAddresses = '--append', 'norandmaps' # PowerShell starts the faster for it on an emulated host; see docs/lab.md

$env:PSModulePath = $Modules, $env:PSModulePath -join [IO.Path]::PathSeparator

# --- Building

# Compiles what a task needs: the solution, or one of its projects.
function Invoke-Publish([string] $Project = 'KvmTsc.sln') {
    if (-not (Get-Command dotnet -CommandType Application -ErrorAction Ignore)) {
        throw 'dotnet is missing. Install the .NET 10 SDK: https://dotnet.microsoft.com/download, or: sudo apt-get install dotnet-sdk-10.0'
    }
    Write-News "Building $Project"
    dotnet publish "$PSScriptRoot/$Project" --configuration Release --nologo --verbosity quiet
}

# The module, with its help.
function Invoke-Stage([string] $Project = 'src/KvmTsc.PowerShell') {
    Invoke-BareStage $Project
    & "$PSScriptRoot/docs/Install-Help.ps1" $Help "$Stage/en-US"
    Write-News "Built $Stage/KvmTsc.psd1"
}

function Invoke-BareStage([string] $Project = 'src/KvmTsc.PowerShell') {
    Invoke-Publish $Project
    if (Test-Path $Stage) {
        Remove-Item $Stage -Recurse
    }
    $null = New-Item $Stage -ItemType Directory
    $binaries = "$Published/KvmTsc.PowerShell/release_linux-x64"
    Copy-Item "$binaries/KvmTsc*.dll", "$binaries/KvmTsc*.pdb", "$binaries/*.ps1xml", "$PSScriptRoot/KvmTsc.psd1", "$PSScriptRoot/LICENSE", "$PSScriptRoot/CHANGELOG.md" $Stage
    Copy-Item "$PSScriptRoot/service" $Stage -Recurse
    Copy-Item "$PSScriptRoot/tests/Acceptance" "$Stage/tests" -Recurse
}

# Builds the module, and meanwhile what a lab would build anew each time, which downloads and waits for the most part: the samples' guest, and for tests the VMM that
# stands in for others. Where this cannot be done, those who need it will say so.
function Invoke-StageAndLab([string] $Project = 'KvmTsc.sln', [string[]] $Script = @('lab/guest/build', 'tests/Vmm/build')) {
    $building = Start-ThreadJob {
        $ErrorActionPreference = 'Stop'
        $PSNativeCommandUseErrorActionPreference = $true
        & $using:Lab exec --cpus 1 -- true 2>&1 # which brings the guest's kernel
        $using:Script | ForEach-Object { & "$using:PSScriptRoot/$_" 2>&1 | Where-Object { $_ -is [Management.Automation.ErrorRecord] } } # the rest is where it is now
    }
    try {
        Invoke-Stage $Project
        Write-News 'Preparing the lab'
        try { Receive-Job $building -Wait | ForEach-Object { Write-News $_ } } catch { Write-Warning "Not all that a lab needs was built: $_" }
    }
    finally {
        Remove-Job $building -Force
    }
}

# Builds all that tests need.
function Invoke-TestBuild {
    Invoke-StageAndLab
    try { $null = & "$PSScriptRoot/tests/Torture/build" } catch { Write-Warning "The torture was not built: $_" }
}

# Fetches a module that is not where PowerShell finds it, from NuGet where that has it (tests/Pester/Modules.csproj), else from the PowerShell
# Gallery. Where it cannot be had, the tests that need it say so.
function Receive-Module([string] $Name) {
    $version = [version] $TestModules[$Name]
    $isThere = { Get-Module $Name -ListAvailable | Where-Object { $_.Version.Major -eq $version.Major -and $_.Version -ge $version } }
    $null = New-Item $Modules -ItemType Directory -Force
    $sources = @(
        if ($Name -eq 'Pester') { { dotnet build "$PSScriptRoot/tests/Pester/Modules.csproj" --nologo --verbosity quiet } }
        { Save-PSResource $Name -Version $version -Path $Modules -TrustRepository -WarningAction Ignore }
    )
    foreach ($source in $sources) {
        if (& $isThere) {
            return
        }
        try { $null = & $source } catch { Write-Verbose "${Name}: $_" }
    }
}

# Brings a program that is missing, from Debian's package of it.
function Install-Tool([string] $Name, [string] $Package) {
    if (-not (Get-Command $Name -CommandType Application -ErrorAction Ignore)) {
        & $Lab install $Package
    }
}

function Write-News([string] $Message) {
    Write-Information "$(Get-Date -Format HH:mm:ss) $Message" -InformationAction Continue
}

# --- Testing

# A command on one KVM host or on two, of which nothing is left but the results.
function Get-LabCommand([string[]] $Command, [string[]] $Options = @()) {
    @($Lab, 'exec', '--cpus', '1', '--attempts', '2', '--timeout', '3600', '--writable', $Results) + $Options + '--' + $Command
}

# The tests of cmdlets in some files, all if none are given.
function Get-PesterCommand([string] $Tier, [string[]] $File = @()) {
    $report = "$Results/$($File ? $File[0] : 'All')"
    @('pwsh', '-NoProfile', '-NonInteractive', '-File', "$PSScriptRoot/tests/Pester/Invoke-Tests.ps1", $Tier, "$Stage/KvmTsc.psd1", $report) +
        ($File | ForEach-Object { "$PSScriptRoot/tests/Pester/$_.Tests.ps1" })
}

# What has Prometheus' node exporter on an emulated host; its test is skipped else.
function Get-ExporterOption {
    , @(if (Get-Command apt-get -CommandType Application -ErrorAction Ignore) { '--with', 'prometheus-node-exporter' })
}

# What has libvirt on an emulated host, and AppArmor; nothing where packages cannot be had.
function Get-LibvirtOption {
    if ((Get-Command apt-get -CommandType Application -ErrorAction Ignore) -and (& $Lab where) -eq 'emulate') {
        'libvirt-daemon-system', 'libvirt-clients', 'qemu-utils', 'apparmor' | ForEach-Object { '--with', $_ }
        'apparmor=1', 'security=apparmor' | ForEach-Object { '--append', $_ }
    }
}

function Get-CheckTier {
    @{ Name = 'engine: units and simulated hosts'; Command = "$PSScriptRoot/tests/engine.sh", 'unit' }
    @{ Name = 'cmdlets on this machine, help, lint'; Command = Get-PesterCommand Host }
}

function Get-TestTier {
    # In this order: one leaves a host's clock wrong, the last takes a host down. Libvirt is with them for its start of PowerShell, and is skipped by name elsewhere.
    $libvirt = @(Get-LibvirtOption)
    $ofTwoHosts = @(if ($libvirt) { 'Libvirt' }) + 'Fleet', 'TwoHosts', 'TwoHostsQemu'
    $all = (Get-ChildItem "$PSScriptRoot/tests/Pester/*.Tests.ps1" | Select-String '-Tag\b[^{]*\bKvm\b' -List).Filename -replace '\.Tests\.ps1$' # finding that a file has none takes a second there
    $others = $all.Where({ $_ -notin $ofTwoHosts + 'LibvirtMigration' }) # which is of Soak
    $asTraced = '--append', 'proc_mem.force_override=ptrace'

    # The longest first. Attaching is tried with each of what kernels allow writers of /proc/PID/mem: all by default, what they trace, nothing.
    @{ Name = "cmdlets on two KVM hosts$($libvirt ? ', one with libvirt' : '')"; Command = Get-LabCommand (Get-PesterCommand Kvm $ofTwoHosts) ('--hosts', 'h1,h2' + $libvirt + $WithoutRandomAddresses) }
    @{ Name = 'cmdlets on a KVM host'; Command = Get-LabCommand (Get-PesterCommand Kvm $others) ((Get-ExporterOption) + $WithoutRandomAddresses) }
    @{ Name = 'attaching does no harm, nor does dying meanwhile'; Command = Get-LabCommand "$PSScriptRoot/tests/Torture/soak.sh", 'TENTH' $asTraced }
    @{ Name = 'engine: real kernel'; Command = "$PSScriptRoot/tests/engine.sh", 'kernel' }
    @{ Name = 'engine: VMMs that SELinux confines'; Command = "$PSScriptRoot/tests/engine.sh", 'selinux' }
    @{ Name = 'the lab itself'; Command = @("$PSScriptRoot/lab/selftest"); Beside = $true }
    Get-CheckTier | ForEach-Object { @{ Name = $_.Name; Command = @('nice', '-n', '10') + $_.Command; Beside = $true } }
}

# What proves more than Test does, and takes longer.
function Get-SoakTier {
    @{ Name = 'engine: 100,000 worlds'; Command = 'env', 'KVMTSC_WORLDS=100000', "$PSScriptRoot/tests/engine.sh", 'unit' }
    @{ Name = 'attaching does no harm'; Command = Get-LabCommand "$PSScriptRoot/tests/Torture/soak.sh", 'FULL' ('--timeout', '14000') }
    @{ Name = 'QEMU guests on a KVM host'; Command = Get-LabCommand (Get-PesterCommand Long QemuMigration, Watch-KvmClock, OtherVmms) ('--timeout', '14000' + $WithoutRandomAddresses) }
    $libvirt = @(Get-LibvirtOption)
    if ($libvirt) {
        @{ Name = 'libvirt on a KVM host'; Command = Get-LabCommand (Get-PesterCommand Long Libvirt) ($libvirt + $WithoutRandomAddresses) }
        @{ Name = 'libvirt on two KVM hosts'; Command = Get-LabCommand (Get-PesterCommand Long LibvirtMigration) ('--hosts', 'h1,h2' + $libvirt + $WithoutRandomAddresses) }
    }
}

# Each kernel with each setting: the engine, attaching, and QEMU guests, on one of them watched.
function Get-MatrixTier {
    $settings = [ordered] @{ 'as it is' = @(); 'ptrace' = @('--append', 'proc_mem.force_override=ptrace'); 'never' = @('--append', 'proc_mem.force_override=never') }
    foreach ($kernel in & $Lab kernels) {
        foreach ($setting in $settings.Keys) {
            $options = @('--kernel', $kernel) + $settings[$setting]
            $guests = $setting -eq 'as it is' ? @('QemuMigration', 'Watch-KvmClock') : @('QemuCmdlets')
            @{ Name = "$kernel, ${setting}: engine"; Command = @("$PSScriptRoot/tests/engine.sh", 'kernel', '--') + $options }
            @{ Name = "$kernel, ${setting}: attaching"; Command = Get-LabCommand "$PSScriptRoot/tests/Torture/soak.sh", 'TENTH' $options }
            @{ Name = "$kernel, ${setting}: QEMU guests"; Command = Get-LabCommand (Get-PesterCommand Kvm $guests) ((Get-ExporterOption) + $options + $WithoutRandomAddresses) }
        }
    }
}

# What is emulated by Bochs, on the newest kernel: an older one takes a minute more to unpack itself.
function Get-IntelTier {
    $kernel = '--kernel', (& $Lab kernels | Select-Object -Last 1)
    $shell = (Get-Process -Id $PID).Path | Split-Path
    $dotnet = realpath (Get-Command dotnet -CommandType Application)[0].Source | Split-Path
    $brought = $shell, "$dotnet/host", "$dotnet/shared", $Stage, $Modules, "$PSScriptRoot/tests" | Where-Object { Test-Path $_ } | ForEach-Object { '--bring', $_ }
    @{ Name = 'engine: TSC scaling, from one Intel host to another'; Command = @("$PSScriptRoot/tests/engine.sh", 'scaling', '--') + $kernel }
    @{ Name = 'engine: real kernel, on an Intel host'; Command = @("$PSScriptRoot/tests/engine.sh", 'intel', '--') + $kernel }
    $intel = @($Lab, 'exec', '--cpu', 'intel', '--timeout', '1800', '--writable', $Results) + $kernel + $brought
    @{ Name = 'cmdlets on an Intel host'; Command = $intel + '--' + (Get-PesterCommand Scaling Scaling) }

    $standIns = if (Get-Command cc -CommandType Application -ErrorAction Ignore) { & "$PSScriptRoot/tests/Vmm/build" }
    $vmms = @("$PSScriptRoot/samples", "$PSScriptRoot/service") + $standIns | Where-Object { $_ } | ForEach-Object { '--bring', $_ }
    @{ Name = 'other VMMs on an Intel host'; Command = $intel + $vmms + '--' + (Get-PesterCommand Kvm OtherVmms) }
    @{ Name = 'an Intel host that sleeps'; Command = $intel + $vmms + '--' + (Get-PesterCommand Sleep Sleep) }
}

# The packages, here, and installed on an emulated host, since all would else be done to this machine, with the checks that come with them.
function Get-ReleaseTier {
    @{ Name = 'packages'; Command = Get-PesterCommand Packages Packages }
    @{ Name = 'packages, installed'; Command = Get-LabCommand (Get-PesterCommand Installed Packages, Acceptance) ('--emulate', '--with', 'rpm' + $WithoutRandomAddresses) }
}

# Builds and runs tiers of tests, and ends with a table of them and their count.
function Invoke-Tier([hashtable[]] $Tier) {
    $Tier = $Tier.Where({ $_.Name -like $TierPattern })
    if (-not $Tier) {
        throw "No tier of $Task is named like '$TierPattern'."
    }
    if (Test-Path $Results) {
        Remove-Item $Results -Recurse
    }
    $null = New-Item $Results -ItemType Directory
    try { Install-Tool shellcheck shellcheck } catch { Write-Verbose "shellcheck: $_" } # the tests that need it say so
    $TestModules.Keys | ForEach-Object { Receive-Module $_ }
    $counts = @(Invoke-AllTier $Tier)
    ($counts | Format-Table Tier, Seconds, Passed, Failed, Skipped | Out-String -Width 100).TrimEnd()
    "The whole output of each is in $Results."
    ''
    $sum = @{}
    'Passed', 'Failed', 'Skipped' | ForEach-Object { $sum[$_] = ($counts | Measure-Object $_ -Sum).Sum }
    "$($sum.Passed) passed, $($sum.Failed) failed, $($sum.Skipped) skipped"
    if ($sum.Failed -gt 0 -or $sum.Passed -eq 0) {
        exit 1
    }
}

# Runs commands, as many at once as there are CPUs, each on an emulated host of its own; on a KVM host, which they would share, one by one. Those that mostly wait, or
# need no KVM host, run beside them, in what these leave of the CPUs. Tells how far they are, and returns a count of each as it ends.
function Invoke-AllTier([hashtable[]] $Tier) {
    $atOnce = (& $Lab where) -eq 'emulate' ? [Environment]::ProcessorCount : 1
    Write-News "Running $($Tier.Count) tiers of tests, $atOnce at once"
    $waiting = [Collections.Generic.Queue[hashtable]]::new([hashtable[]] $Tier.Where({ -not $_['Beside'] }))
    $running = [Collections.Generic.List[object]]::new()
    $Tier.Where({ $_['Beside'] }) | ForEach-Object { $running.Add((Invoke-TierProcess $_)) }
    $news = [Diagnostics.Stopwatch]::StartNew()
    try {
        while ($waiting.Count -or $running.Count) {
            while ($waiting.Count -and $running.Where({ -not $_.Beside }).Count -lt $atOnce) {
                $running.Add((Invoke-TierProcess $waiting.Dequeue()))
            }
            Start-Sleep -Milliseconds 200
            foreach ($ended in $running.Where({ $_.Process.HasExited })) {
                $null = $running.Remove($ended)
                Get-TierCount $ended
            }
            if ($news.Elapsed.TotalSeconds -gt $SecondsBetweenNews) {
                $running | ForEach-Object { Write-News "  $($_.Name), $([int] $_.Clock.Elapsed.TotalSeconds) s: $(Get-LastLine $_)" }
                $news.Restart()
            }
        }
    }
    finally {
        $PSNativeCommandUseErrorActionPreference = $false # one may have ended meanwhile
        $running | ForEach-Object { kill -TERM $_.Process.Id }
        $running | ForEach-Object { $_.Process.WaitForExit() }
    }
}

# Starts it, in a process group of its own, which ends with us however we end, and writes to a file.
function Invoke-TierProcess([hashtable] $Tier) {
    $log = "$Results/$($Tier.Name -replace '\W+', '-').log"
    $script = 'exec >"$0" 2>&1 </dev/null; trap "trap - TERM; kill -TERM 0; wait" TERM; "$@" & wait $!'
    $start = [Diagnostics.ProcessStartInfo]::new('setpriv', [string[]] (@('--pdeathsig', 'TERM', 'setsid', 'bash', '-c', $script, $log) + $Tier.Command))
    $start.Environment['NO_COLOR'] = '1'
    Write-News "Begun: $($Tier.Name)"
    @{ Name = $Tier.Name; Beside = $Tier['Beside']; Log = $log; Clock = [Diagnostics.Stopwatch]::StartNew(); Process = [Diagnostics.Process]::Start($start) }
}

function Get-LastLine([hashtable] $Tier) {
    $line = "$(Get-Content $Tier.Log -Tail 5 -ErrorAction Ignore | Where-Object { $_.Trim() } | Select-Object -Last 1)".Trim()
    $line.Length -gt 90 ? $line.Substring(0, 89) + [char] 0x2026 : $line
}

# Every tier's last line is its count, and a line before it begins with FAILED or SKIPPED for each test that did not pass; a tier that ends
# without a count, or badly, has failed, and what Pester said of tests that had failed by then is told.
function Get-TierCount([hashtable] $Tier) {
    $lines = @(Get-Content $Tier.Log)
    $count = [pscustomobject] @{ Tier = $Tier.Name; Seconds = [int] $Tier.Clock.Elapsed.TotalSeconds; Passed = 0; Failed = 0; Skipped = 0 }
    $told = @($lines -match '^(\[ *[\d.]+ s\] )?(FAILED|SKIPPED)\b')
    $last = $lines | Where-Object { $_.Trim() } | Select-Object -Last 1
    if ($last -match '(?<passed>\d+) passed, (?<failed>\d+) failed(, (?<skipped>\d+) skipped)?') {
        $count.Passed = [int] $Matches.passed
        $count.Failed = [int] $Matches.failed
        $count.Skipped = [int] ($Matches['skipped'] ?? 0)
    }
    else {
        $told += @($lines -match '^\s*\[-\] ')
    }
    if ($Tier.Process.ExitCode -ne 0 -and $count.Failed -eq 0) {
        $told += "FAILED: it ended with exit code $($Tier.Process.ExitCode), and at last said:"
        $told += @($lines | Select-Object -Last 20)
        $count.Failed = 1
    }
    Write-News "Ended: $($Tier.Name), $($count.Seconds) s: $($count.Passed) passed, $($count.Failed) failed, $($count.Skipped) skipped"
    $told | ForEach-Object { Write-Information "  $_" -InformationAction Continue }
    $count
}

# --- Tasks

function Invoke-Demo {
    Invoke-StageAndLab src/KvmTsc.PowerShell lab/guest/build
    $root = $PSScriptRoot -replace "'", "''"
    $sample = "& '$root/samples/Invoke-QemuMigration.ps1' -InformationAction Continue"
    $script = "$sample; ''; $sample -Scenario PauseContinue -Run Without, Watched -CoursePath '$root/out/results/course.json'"
    $null = New-Item $Results -ItemType Directory -Force
    & $Lab exec --cpus 1 --timeout 1800 --attempts 2 --writable $Results @WithoutRandomAddresses -- pwsh -NoProfile -NonInteractive -Command $script
}

function Invoke-Documentation {
    $name = 'Microsoft.PowerShell.PlatyPS'
    Receive-Module $name
    if (-not (Get-Module $name -ListAvailable)) {
        throw "PlatyPS is missing. Install it: Install-PSResource $name -Version $($TestModules[$name])"
    }
    Invoke-BareStage
    # In a PowerShell of their own: an assembly, once loaded, cannot be built again.
    & pwsh -NoProfile -NonInteractive -File "$PSScriptRoot/docs/Update-Help.ps1" $Help "$Stage/KvmTsc.psd1"
    & pwsh -NoProfile -NonInteractive -File "$PSScriptRoot/docs/Export-Help.ps1" $Help "$Stage/KvmTsc.psd1" "$Help/en-US"
    & "$PSScriptRoot/docs/Install-Help.ps1" $Help "$Stage/en-US"
}

function Invoke-Package {
    Install-Tool dpkg-deb dpkg
    Install-Tool rpmbuild rpm
    Invoke-Stage
    $null = dotnet tool restore
    & "$PSScriptRoot/packaging/New-Package.ps1" $Stage $Packages
    Write-News "Packed $Packages"
}

switch ($Task) {
    Build { Invoke-Stage KvmTsc.sln }
    Check {
        Invoke-Stage KvmTsc.sln
        Invoke-Tier (Get-CheckTier)
    }
    Test {
        Invoke-TestBuild
        Invoke-Tier (Get-TestTier)
    }
    Soak {
        Invoke-TestBuild
        Invoke-Tier (Get-SoakTier)
    }
    Matrix {
        Invoke-TestBuild
        Invoke-Tier (Get-MatrixTier)
    }
    Intel {
        Invoke-Stage KvmTsc.sln
        Invoke-Tier (Get-IntelTier)
    }
    Bench {
        Invoke-Stage KvmTsc.sln
        & "$PSScriptRoot/bench/Measure-All.ps1" $Only
    }
    Demo { Invoke-Demo }
    Lab {
        Invoke-Stage
        & $Lab exec -- pwsh -NoExit -Command "Import-Module '$Stage/KvmTsc.psd1'"
    }
    Docs { Invoke-Documentation }
    Package { Invoke-Package }
    Release {
        Invoke-Package
        Invoke-Tier (Get-ReleaseTier)
    }
    Clean {
        if (Test-Path $Out) {
            Remove-Item $Out -Recurse -Force
        }
    }
}
