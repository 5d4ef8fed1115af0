#Requires -Version 7.6
<#
.SYNOPSIS
Builds, tests and shows KvmTsc.
.DESCRIPTION
Build    stages an importable module at out/KvmTsc/KvmTsc.psd1
Test     runs all tests: engine, simulated hosts, real kernel, cmdlets, help, lint
Soak     proves that attaching does no harm: attaches 2,000 times, is killed 500 times, and stops QEMU guests in all ways; takes 20 minutes in the lab
Demo     migrates a running QEMU guest on a real kernel, without and with KvmTsc, and has its own clocks tell what it cost
Lab      opens a shell with the module on a KVM host, an emulated one where this machine has no /dev/kvm
Docs     brings docs/help in line with the cmdlets
Package  makes out/KvmTsc-VERSION.zip
Clean    removes out
.EXAMPLE
./build.ps1 -Task Test
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)]
    [ValidateSet('Build', 'Test', 'Soak', 'Demo', 'Lab', 'Docs', 'Package', 'Clean')]
    [string] $Task = 'Build'
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true
$env:POWERSHELL_TELEMETRY_OPTOUT = '1'
$env:POWERSHELL_UPDATECHECK = 'Off'

$Out = "$PSScriptRoot/out"
$Stage = "$Out/KvmTsc"
$Help = "$PSScriptRoot/docs/help"
$Results = "$Out/results"
$Lab = "$PSScriptRoot/lab/kvmlab"
$PinnedModules = @{ 'Pester' = '6.0.1'; 'Microsoft.PowerShell.PlatyPS' = '1.0.3'; 'PSScriptAnalyzer' = '1.25.0' }

function Assert-Command([string] $Name, [string] $Install) {
    if (-not (Get-Command $Name -CommandType Application -ErrorAction Ignore)) {
        throw "$Name is missing. Install it: $Install"
    }
}

# Whether a module is there: where PowerShell finds it, else fetched from the PowerShell Gallery at the pinned version.
function Test-RequiredModule([string] $Name) {
    $version = [version] $PinnedModules[$Name]
    $saved = "$Out/modules"
    if ($saved -notin $env:PSModulePath.Split([IO.Path]::PathSeparator)) {
        $env:PSModulePath += [IO.Path]::PathSeparator + $saved
    }
    if (Get-Module $Name -ListAvailable | Where-Object { $_.Version.Major -eq $version.Major -and $_.Version -ge $version }) {
        return $true
    }
    try {
        $null = New-Item $saved -ItemType Directory -Force
        Save-PSResource $Name -Version $version -Path $saved -TrustRepository -WarningAction Ignore
        $true
    }
    catch {
        Write-Warning "$Name $version is missing, and could not be fetched ($_). Install it: Install-PSResource $Name -Version $version"
        $false
    }
}

function Invoke-Build {
    Invoke-Stage
    if (Test-RequiredModule Microsoft.PowerShell.PlatyPS) {
        Invoke-Script "$PSScriptRoot/docs/Export-Help.ps1" -ArgumentList $Help, "$Stage/KvmTsc.psd1", "$Stage/en-US"
        "Built $Stage/KvmTsc.psd1"
    }
    else {
        "Built $Stage/KvmTsc.psd1. Left out: its help, which needs Microsoft.PowerShell.PlatyPS."
    }
}

# The module without its help.
function Invoke-Stage {
    Assert-Command dotnet 'https://dotnet.microsoft.com/download (.NET 10 SDK), or: sudo apt-get install dotnet-sdk-10.0'
    dotnet build "$PSScriptRoot/KvmTsc.sln" --configuration Release --nologo --verbosity quiet
    if (Test-Path $Stage) {
        Remove-Item $Stage -Recurse
    }
    $null = New-Item $Stage -ItemType Directory
    dotnet publish "$PSScriptRoot/src/KvmTsc.PowerShell" --configuration Release --runtime linux-x64 --no-self-contained --nologo --verbosity quiet
    $binaries = "$Out/artifacts/publish/KvmTsc.PowerShell/release_linux-x64"
    Copy-Item "$binaries/KvmTsc*.dll", "$binaries/*.ps1xml", "$PSScriptRoot/KvmTsc.psd1", "$PSScriptRoot/LICENSE" $Stage
}

# Runs a script in a PowerShell of its own: an assembly, once loaded, cannot be built again.
function Invoke-Script([string] $Path, [string[]] $ArgumentList) {
    & pwsh -NoProfile -NonInteractive -File $Path @ArgumentList
}

# The samples' guest, which a lab would build anew each time. Where this cannot be done, they will say so.
function Invoke-GuestBuild {
    try {
        & $Lab exec --cpus 1 -- true # which brings the guest's kernel
        $null = & "$PSScriptRoot/lab/guest/build"
    }
    catch {
        Write-Warning "The lab's guest was not built: $_"
    }
}

# A command on one KVM host or on two, of which nothing is left but the results.
function Get-LabCommand([string[]] $Command, [string[]] $Options) {
    @($Lab, 'exec', '--cpus', '1', '--attempts', '2', '--writable', $Results) + $Options + '--' + $Command
}

# The tests of cmdlets in some files, all if none are given.
function Get-PesterCommand([string] $Tier, [string[]] $Path = @()) {
    $report = "$Results/$($Path ? (Split-Path $Path[0] -LeafBase) : 'All')"
    @('pwsh', '-NoProfile', '-NonInteractive', '-File', "$PSScriptRoot/tests/Pester/Invoke-Tests.ps1", $Tier, "$Stage/KvmTsc.psd1", $report) + $Path
}

function Get-TestFile([string[]] $Name) {
    $Name | ForEach-Object { "$PSScriptRoot/tests/Pester/$_.Tests.ps1" }
}

function Invoke-Test {
    $ofGuests = 'QemuMigration', 'QemuCmdlets'
    $ofHosts = 'Fleet', 'TwoHosts' # which leaves a host's clock wrong
    $ofGuestsAndHosts = 'TwoHostsQemu'
    $all = (Get-ChildItem "$PSScriptRoot/tests/Pester/*.Tests.ps1").Name -replace '\.Tests\.ps1$'
    $others = $all.Where({ $_ -notin $ofGuests + $ofHosts + $ofGuestsAndHosts })
    $hosts = '--hosts', 'h1,h2', '--timeout', '1800'

    # The longest first.
    Invoke-Tier @(
        @{ Name = 'a QEMU guest between two KVM hosts'; Command = Get-LabCommand (Get-PesterCommand Kvm (Get-TestFile $ofGuestsAndHosts)) $hosts }
        @{ Name = 'cmdlets, on a KVM host'; Command = Get-LabCommand (Get-PesterCommand Kvm (Get-TestFile $others)) '--timeout', '2400' }
        @{ Name = 'attaching does no harm'; Command = Get-LabCommand "$PSScriptRoot/tests/Torture/soak.sh", 'TENTH' '--timeout', '1800' }
        @{ Name = 'two KVM hosts'; Command = Get-LabCommand (Get-PesterCommand Kvm (Get-TestFile $ofHosts)) $hosts }
        @{ Name = 'QEMU guests, on a KVM host'; Command = Get-LabCommand (Get-PesterCommand Kvm (Get-TestFile $ofGuests)) '--timeout', '1800' }
        @{ Name = 'engine'; Command = "$PSScriptRoot/tests/engine.sh", 'Release' }
        @{ Name = 'the lab itself'; Command = @("$PSScriptRoot/lab/selftest") }
        @{ Name = 'cmdlets, on this machine'; Command = Get-PesterCommand Host }
    )
}

# What proves more than Test does, and takes longer.
function Invoke-Soak {
    Invoke-Tier @(
        @{ Name = 'attaching does no harm'; Command = Get-LabCommand "$PSScriptRoot/tests/Torture/soak.sh", 'FULL' '--timeout', '14000' }
        @{ Name = 'QEMU guests, on a KVM host'; Command = Get-LabCommand (Get-PesterCommand Long (Get-TestFile QemuMigration)) '--timeout', '14000' }
    )
}

# Builds, runs tiers of tests, and ends with their count. Where a module is missing that the tests of cmdlets need, they are counted as skipped.
function Invoke-Tier([hashtable[]] $Tier) {
    Invoke-Build
    Invoke-GuestBuild
    if (Test-Path $Results) {
        Remove-Item $Results -Recurse
    }
    $null = New-Item $Results -ItemType Directory
    $total = @{ passed = 0; failed = 0; skipped = 0 }
    $missing = @($PinnedModules.Keys | Where-Object { -not (Test-RequiredModule $_) })
    if ($missing) {
        $left, $Tier = $Tier.Where({ $_.Command -like '*/Invoke-Tests.ps1' }, 'Split')
        foreach ($file in $left.Command -like '*.Tests.ps1' | Sort-Object -Unique) {
            "Skipped, since it needs $($missing -join ', '): $(Split-Path $file -Leaf)"
            $total.skipped++
        }
    }
    Invoke-TierCommand $Tier | ForEach-Object {
        if ($_ -is [string]) {
            return $_
        }
        "`n== $($_.Name)"
        $_.Lines
        Add-Count $total $_
    }
    ''
    "$($total.passed) passed, $($total.failed) failed, $($total.skipped) skipped"
    if ($total.failed -gt 0 -or $total.passed -eq 0) {
        exit 1
    }
}

# Runs commands, as many at once as there are CPUs, each on an emulated host of its own; on a KVM host, which they would share, one by one.
# Returns a line as each begins, and what it printed as it ends.
function Invoke-TierCommand([hashtable[]] $Tier) {
    $atOnce = (& $Lab where) -eq 'emulate' ? [Environment]::ProcessorCount : 1
    "Running $($Tier.Count) tiers of tests, $atOnce at once. What each says comes when it ends. Begun:" | Write-Information -InformationAction Continue
    $Tier | ForEach-Object -ThrottleLimit $atOnce -Parallel {
        $PSNativeCommandUseErrorActionPreference = $false
        "$(Get-Date -Format HH:mm:ss) $($_.Name)"
        $clock = [Diagnostics.Stopwatch]::StartNew()
        $program, $arguments = $_.Command
        $lines = & $program @arguments 2>&1 | ForEach-Object { "$_" }
        [pscustomobject] @{ Name = "$($_.Name) ($([int] $clock.Elapsed.TotalSeconds) s)"; Lines = @($lines); ExitCode = $LASTEXITCODE }
    }
}

# Every tier's last line is its count; a tier that ends without one, or badly, has failed.
function Add-Count([hashtable] $Total, $Tier) {
    $last = $Tier.Lines | Where-Object { $_.Trim() } | Select-Object -Last 1
    if ($last -notmatch '(?<passed>\d+) passed, (?<failed>\d+) failed(, (?<skipped>\d+) skipped)?') {
        "The tier '$($Tier.Name)' ended without a count (exit code $($Tier.ExitCode)): counted as 1 failed."
        $Total.failed++
        return
    }
    $count = $Matches
    $Total.passed += [int] $count.passed
    $Total.failed += [int] $count.failed
    $Total.skipped += [int] ($count['skipped'] ?? 0)
    if ($Tier.ExitCode -ne 0 -and [int] $count.failed -eq 0) {
        "The tier '$($Tier.Name)' ended with exit code $($Tier.ExitCode): counted as 1 failed."
        $Total.failed++
    }
}

function Invoke-Demo {
    Invoke-Build
    Invoke-GuestBuild
    & $Lab exec --cpus 1 --timeout 1800 --attempts 2 -- pwsh -NoProfile -NonInteractive -File "$PSScriptRoot/samples/Invoke-QemuMigration.ps1" -InformationAction Continue
}

function Invoke-Lab {
    Invoke-Build
    & $Lab exec -- pwsh -NoExit -Command "Import-Module '$Stage/KvmTsc.psd1'"
}

function Invoke-Package {
    Invoke-Build
    if (-not (Test-Path "$Stage/en-US")) {
        exit 1
    }
    $version = (Import-PowerShellDataFile "$PSScriptRoot/KvmTsc.psd1").ModuleVersion
    $archive = Join-Path $Out "KvmTsc-$version.zip"
    Compress-Archive $Stage $archive -Force
    "Packed $archive"
}

switch ($Task) {
    Build { Invoke-Build }
    Test { Invoke-Test }
    Soak { Invoke-Soak }
    Demo { Invoke-Demo }
    Lab { Invoke-Lab }
    Docs {
        Invoke-Stage
        if (-not (Test-RequiredModule Microsoft.PowerShell.PlatyPS)) {
            exit 1
        }
        Invoke-Script "$PSScriptRoot/docs/Update-Help.ps1" -ArgumentList $Help, "$Stage/KvmTsc.psd1"
    }
    Package { Invoke-Package }
    Clean {
        if (Test-Path $Out) {
            Remove-Item $Out -Recurse -Force
        }
    }
}
