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
Import-Module "$PSScriptRoot/Help.psm1"
$Utf8 = [Text.UTF8Encoding]::new($false)

# What people have written, put to what the cmdlet is now. Update-CommandHelp keeps parameters that are gone and adds its own text for -WhatIf
# and -Confirm to ours with every update.
function Copy-Text($Page, $CommandHelp) {
    foreach ($property in 'Synopsis', 'Description', 'Notes', 'Aliases') {
        $CommandHelp.$property = $Page.$property
    }
    $CommandHelp.AliasHeaderFound = $true
    foreach ($list in 'Examples', 'RelatedLinks') {
        $CommandHelp.$list.Clear()
        $Page.$list | ForEach-Object { $CommandHelp.$list.Add($_) }
    }
    foreach ($parameter in $CommandHelp.Parameters) {
        $before = $Page.Parameters | Where-Object Name -EQ $parameter.Name
        if ($before) {
            $parameter.Description = $before.Description
            $parameter.DefaultValue = $before.DefaultValue
        }
    }
    Copy-TypeText $Page.Inputs $CommandHelp.Inputs
    Copy-TypeText $Page.Outputs $CommandHelp.Outputs
}

# A cmdlet that takes or returns nothing has the type None in a page, and in code no type, void or object.
function Copy-TypeText($Page, $Types) {
    $none = $Page | Where-Object Typename -EQ 'None'
    if ($none -and -not ($Types | Where-Object Typename -NotIn 'System.Void', 'System.Object')) {
        $Types.Clear()
        $Types.Add($none)
    }
    foreach ($type in $Types) {
        $before = $Page | Where-Object Typename -EQ $type.Typename
        if ($before) {
            $type.Description = $before.Description
        }
    }
}

# Writes a page; one that would only get a new date stays as it is.
function Write-Page($CommandHelp, [string] $Path) {
    $file = Export-MarkdownCommandHelp $CommandHelp -OutputFolder $Temporary -Encoding $Utf8 -Force
    $text = [IO.File]::ReadAllText($file.FullName).TrimEnd() + "`n"
    $old = (Test-Path $Path) ? [IO.File]::ReadAllText($Path) : ''
    $date = '(?m)^ms\.date: .*$'
    if (($text -replace $date) -ne ($old -replace $date)) {
        [IO.File]::WriteAllText($Path, $text, $Utf8)
        "Updated $Path"
    }
}

$Help = (Resolve-Path $Help).ProviderPath
$Temporary = Join-Path ([IO.Path]::GetTempPath()) ([IO.Path]::GetRandomFileName())
try {
    $module = Import-BareModule $Manifest $Temporary
    $commands = Get-Command -Module $module.Name -CommandType Cmdlet, Function
    foreach ($command in $commands) {
        $path = Join-Path $Help "$($command.Name).md"
        $commandHelp = & { Set-StrictMode -Off; New-CommandHelp $command } # PlatyPS runs script of its own in our scope
        $commandHelp.Syntax | ForEach-Object { $_.HasCmdletBinding = $true }
        if (Test-Path $path) {
            Copy-Text (Import-MarkdownCommandHelp $path) $commandHelp
        }
        Write-Page $commandHelp $path
    }
}
finally {
    Remove-Item $Temporary -Recurse -ErrorAction Ignore
}
foreach ($page in Get-ChildItem $Help -Filter *.md -Exclude about_*) {
    if ($page.BaseName -notin $commands.Name) {
        Write-Warning "$($page.FullName): there is no cmdlet $($page.BaseName)."
    }
}
