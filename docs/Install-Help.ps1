#Requires -Version 7.6
<#
.SYNOPSIS
Puts the help where Get-Help finds it: the cmdlets' as it is kept beside its pages, and the about topics, made from theirs.
.DESCRIPTION
It needs no PlatyPS. Where a page has changed since the kept help was made, it fails and installs nothing.
.EXAMPLE
./docs/Install-Help.ps1 docs/help out/KvmTsc/en-US
#>
[CmdletBinding()]
param(
    # The folder of the markdown pages, with the kept help in its en-US.
    [Parameter(Mandatory, Position = 0)]
    [string] $Help,

    # The folder for the help, en-US beside the manifest; made anew.
    [Parameter(Mandatory, Position = 1)]
    [string] $Destination
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
Import-Module "$PSScriptRoot/Help.psm1"

# --- About topics, which PlatyPS 1.x does not make

# Plain text for 80 columns. Get-Help takes the fifth line as the synopsis.
function ConvertTo-AboutText([string] $Markdown) {
    $blocks = [regex]::Matches($Markdown.ReplaceLineEndings("`n"), '(?ms)^```\w*\n(?<code>.*?)^```$|^(?<heading>#+) (?<title>.*?)$|^(?<text>[^\n]+(\n(?!```|- |#)[^\n]+)*)')
    $previous = ''
    foreach ($block in $blocks) {
        $isItem = $block.Value.StartsWith('- ')
        if ($previous -notin '', '#', '##' -and -not ($isItem -and $previous -eq '-')) {
            ''
        }
        $previous = $isItem ? '-' : $block.Groups['heading'].Success ? $block.Groups['heading'].Value : 'text'
        switch ($previous) {
            '#' { 'TOPIC', "    $($block.Groups['title'].Value)", '' }
            '##' { $block.Groups['title'].Value.ToUpperInvariant() }
            '###' { "  $($block.Groups['title'].Value)" }
            default {
                $block.Groups['code'].Success ? (Format-Code $block.Groups['code'].Value) : (Format-Text $block.Value)
            }
        }
    }
}

function Format-Code([string] $Code) {
    foreach ($line in $Code.TrimEnd().Split("`n")) {
        if ($line.Length -gt 74) {
            throw "An about topic has a line that is too long for 80 columns: $line"
        }
        "      $line".TrimEnd()
    }
}

# A paragraph, or an item of a list whose further lines are indented.
function Format-Text([string] $Text) {
    $Text = $Text -replace '\[([^\]]+)\]\([^)]+\.md\)', '$1' -replace '\[([^\]]+)\]\(([^)]+)\)', '$1: $2' -replace '`'
    $line = '   '
    foreach ($word in $Text -split '\s+') {
        if ($line.Trim() -and $line.Length + 1 + $word.Length -gt 80) {
            $line
            $line = $Text.StartsWith('- ') ? '     ' : '   '
        }
        $line += " $word"
    }
    $line
}

# ---

$kept = Get-ChildItem "$Help/en-US" -Filter *.xml
foreach ($file in $kept) {
    if (-not (Select-String -LiteralPath $file.FullName -Pattern "<!--$(Get-HelpMark $Help)-->" -SimpleMatch -Quiet)) {
        throw "The pages in $Help have changed since $($file.Name) was made from them. Make it anew: ./build.sh Docs"
    }
}
$texts = @{}
foreach ($topic in Get-ChildItem $Help -Filter about_*.md) {
    $texts["$($topic.BaseName).help.txt"] = (ConvertTo-AboutText ([IO.File]::ReadAllText($topic.FullName))) -join "`n"
}
if (Test-Path $Destination) {
    Remove-Item $Destination -Recurse
}
$Destination = (New-Item $Destination -ItemType Directory).FullName
$kept | Copy-Item -Destination $Destination
foreach ($name in $texts.Keys) {
    [IO.File]::WriteAllText((Join-Path $Destination $name), "$($texts[$name])`n")
}
