#Requires -Version 7.6
#Requires -Modules @{ ModuleName = 'Microsoft.PowerShell.PlatyPS'; ModuleVersion = '1.0.3' }
<#
.SYNOPSIS
Brings the markdown help in line with the cmdlets.
.DESCRIPTION
Takes over syntax, parameters, types and aliases from the cmdlets and keeps what people have written. A new cmdlet gets a new page, and what is
to be written there is in {{ braces }}, which Export-Help.ps1 refuses. A page whose cmdlet is gone is named, and left to be deleted by hand.
.EXAMPLE
./docs/Update-Help.ps1 docs/help out/KvmTsc/KvmTsc.psd1
#>
[CmdletBinding()]
param(
    # The folder of the markdown pages.
    [Parameter(Mandatory, Position = 0)]
    [string] $Help,

    # The manifest of the module whose cmdlets the pages are about.
    [Parameter(Mandatory, Position = 1)]
    [string] $Manifest
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$Utf8 = [Text.UTF8Encoding]::new($false)

# PlatyPS's own text for -WhatIf and -Confirm is added to ours by every update, and a cmdlet that writes nothing gets an output.
function Restore-Text($Updated, $Written) {
    foreach ($parameter in $Updated.Parameters) {
        $before = $Written.Parameters | Where-Object Name -EQ $parameter.Name
        if ($before) {
            $parameter.Description = $before.Description
        }
    }
    if ($Written.Outputs.Typename -contains 'None') {
        $null = $Updated.Outputs.RemoveAll({ param($output) $output.Typename -eq 'System.Object' })
    }
}

# Writes a page; one that would only get a new date stays as it is.
function Write-Page($CommandHelp, [string] $Path) {
    $folder = Join-Path ([IO.Path]::GetTempPath()) ([IO.Path]::GetRandomFileName())
    try {
        $file = Export-MarkdownCommandHelp $CommandHelp -OutputFolder $folder -Encoding $Utf8
        $text = [IO.File]::ReadAllText($file.FullName).TrimEnd() + "`n"
    }
    finally {
        Remove-Item $folder -Recurse -ErrorAction Ignore
    }
    $old = (Test-Path $Path) ? [IO.File]::ReadAllText($Path) : ''
    $date = '(?m)^ms\.date: .*$'
    if (($text -replace $date) -ne ($old -replace $date)) {
        [IO.File]::WriteAllText($Path, $text, $Utf8)
        "Updated $Path"
    }
}

$Help = (Resolve-Path $Help).ProviderPath
$module = Import-Module (Resolve-Path $Manifest).ProviderPath -PassThru
$commands = Get-Command -Module $module.Name -CommandType Cmdlet, Function
foreach ($command in $commands) {
    $page = Join-Path $Help "$($command.Name).md"
    if (Test-Path $page) {
        $updated = & { Set-StrictMode -Off; Update-CommandHelp $page } # which runs script of its own in our scope
        Restore-Text $updated (Import-MarkdownCommandHelp $page)
    }
    else {
        $updated = New-CommandHelp $command
    }
    Write-Page $updated $page
}
foreach ($page in Get-ChildItem $Help -Filter *.md -Exclude about_*) {
    if ($page.BaseName -notin $commands.Name) {
        Write-Warning "$($page.FullName): there is no cmdlet $($page.BaseName)."
    }
}
