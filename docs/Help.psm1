# What the scripts that make the help share.
Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

<#
.SYNOPSIS
What the kept help was made from: the cmdlets' pages, however their lines end here.
#>
function Get-HelpDigest([string] $Help) {
    $hash = [Security.Cryptography.IncrementalHash]::CreateHash('SHA256')
    foreach ($page in Get-HelpPage $Help | Sort-Object Name -Culture '') {
        $hash.AppendData([Text.Encoding]::UTF8.GetBytes("$($page.Name)`n$([IO.File]::ReadAllText($page.FullName).ReplaceLineEndings("`n"))`0"))
    }
    [Convert]::ToHexStringLower($hash.GetHashAndReset())
}

<#
.SYNOPSIS
The cmdlets' pages.
#>
function Get-HelpPage([string] $Help) {
    Get-ChildItem (Resolve-Path $Help).ProviderPath -Filter *.md | Where-Object BaseName -NotLike about_*
}

<#
.SYNOPSIS
The comment that the kept help begins with.
#>
function Get-HelpMark([string] $Help) {
    " Made by ./build.sh Docs from the pages in docs/help, whose SHA-256 is $(Get-HelpDigest $Help). Not to be edited. "
}

<#
.SYNOPSIS
The module from a copy without its help, which PlatyPS would read along with the cmdlets.
#>
function Import-BareModule([string] $Manifest, [string] $Folder) {
    $source = (Resolve-Path $Manifest).ProviderPath
    $copy = New-Item (Join-Path $Folder (Split-Path $source -LeafBase)) -ItemType Directory
    Get-ChildItem (Split-Path $source) -File | Copy-Item -Destination $copy
    Import-Module (Join-Path $copy (Split-Path $source -Leaf)) -PassThru -Scope Global
}

Export-ModuleMember Get-HelpMark, Get-HelpPage, Import-BareModule
