#Requires -Version 7.6
#Requires -Modules @{ ModuleName = 'Microsoft.PowerShell.PlatyPS'; ModuleVersion = '1.0.3' }
<#
.SYNOPSIS
Makes the cmdlets' help that Get-Help finds from the markdown pages, if they say what the cmdlets do.
.DESCRIPTION
Compares the pages with the cmdlets of a staged module: cmdlets, parameters, types, aliases, parameter sets, inputs and outputs. On any
difference, and where a page is not finished, it names page and difference, fails, and writes nothing. Update-Help.ps1 brings the pages in line.

What it makes is kept beside the pages, since PlatyPS is not to be had everywhere, and the help has to be. It begins with a digest of the pages,
by which Install-Help.ps1 tells that one has changed since.
.EXAMPLE
./docs/Export-Help.ps1 docs/help out/KvmTsc/KvmTsc.psd1 docs/help/en-US
#>
[CmdletBinding()]
param(
    # The folder of the markdown pages.
    [Parameter(Mandatory, Position = 0)]
    [string] $Help,

    # The manifest of the staged module.
    [Parameter(Mandatory, Position = 1)]
    [string] $Manifest,

    # The folder for the help.
    [Parameter(Mandatory, Position = 2)]
    [string] $Destination
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
Import-Module "$PSScriptRoot/Help.psm1"
$Names = [Xml.XmlNamespaceManager]::new([Xml.NameTable]::new())
$Names.AddNamespace('maml', 'http://schemas.microsoft.com/maml/2004/10')
$Names.AddNamespace('command', 'http://schemas.microsoft.com/maml/dev/command/2004/10')
$Names.AddNamespace('dev', 'http://schemas.microsoft.com/maml/dev/2004/10')

# --- Drift

# What a page and a cmdlet have to agree on, one line each. Compare-CommandHelp compares the same objects, but by position in lists: it calls
# every page different, and of a parameter that is missing it says that "lists are different sizes".
function Get-Fact($CommandHelp) {
    "the name $($CommandHelp.Title)"
    "the module $($CommandHelp.ModuleName)"
    "the help file $($CommandHelp.ExternalHelpFile)"
    foreach ($syntax in $CommandHelp.Syntax) {
        $set = "the syntax of the parameter set $($syntax.ParameterSetName)"
        $set
        "$set, default $($syntax.IsDefaultParameterSet)"
        foreach ($parameter in $syntax.SyntaxParameters) {
            "$set with -$($parameter.ParameterName) $($parameter.ParameterType), mandatory $($parameter.IsMandatory), positional $($parameter.IsPositional)"
        }
    }
    foreach ($parameter in $CommandHelp.Parameters) {
        Get-ParameterFact $parameter
    }
    $CommandHelp.Inputs | Where-Object Typename -NE 'None' | ForEach-Object { "the input $($_.Typename)" }
    $CommandHelp.Outputs | Where-Object Typename -NotIn 'None', 'System.Void', 'System.Object' | ForEach-Object { "the output $($_.Typename)" }
}

function Get-ParameterFact($Parameter) {
    $name = "the parameter -$($Parameter.Name)"
    $name
    "$name of type $($Parameter.Type)"
    "$name, wildcards $($Parameter.SupportsWildcards), hidden $($Parameter.DontShow)"
    $Parameter.Aliases | ForEach-Object { "$name with the alias $_" }
    $Parameter.AcceptedValues | ForEach-Object { "$name with the value $_" }
    foreach ($set in $Parameter.ParameterSets) {
        "$name in the parameter set $($set.Name) at position $($set.Position), mandatory $($set.IsRequired), pipeline $($set.ValueFromPipeline), " +
        "by property name $($set.ValueFromPipelineByPropertyName), remaining $($set.ValueFromRemainingArguments)"
    }
}

function Get-Drift($Page, $Command) {
    $fromPage = Get-Fact (Import-MarkdownCommandHelp $Page.FullName)
    $fromCode = Get-Fact (& { Set-StrictMode -Off; New-CommandHelp $Command }) # PlatyPS runs script of its own in our scope
    $differences = @(Compare-Object $fromPage $fromCode -CaseSensitive)
    foreach ($difference in $differences) {
        # Of a parameter or set that is missing as a whole its parts are not worth naming.
        $whole = $differences | Where-Object { $difference.InputObject -match "^$([regex]::Escape($_.InputObject))[ ,]" }
        if (-not $whole) {
            $difference.SideIndicator -eq '=>' ? "lacks $($difference.InputObject)" : "has $($difference.InputObject), and the cmdlet has not"
        }
    }
}

# The structural test passes pages that nobody has written.
function Get-Gap($Page) {
    if (-not (Test-MarkdownCommandHelp $Page.FullName)) {
        $missing = Test-MarkdownCommandHelp $Page.FullName -DetailView | ForEach-Object Messages | Where-Object { $_ -notmatch '^PASS' }
        "is not structured as a help page: $(@($missing) -join '; ')"
    }
    foreach ($line in Select-String -LiteralPath $Page.FullName -Pattern '{{' -SimpleMatch) {
        "line $($line.LineNumber) is yet to be written: $($line.Line.Trim())"
    }
}

function Get-Problem($Commands, $Pages) {
    foreach ($command in $Commands | Where-Object Name -NotIn $Pages.BaseName) {
        "$($command.Name).md is missing."
    }
    foreach ($page in $Pages) {
        $command = $Commands | Where-Object Name -EQ $page.BaseName
        if (-not $command) {
            "$($page.Name): there is no cmdlet $($page.BaseName)."
            continue
        }
        $found = @(Get-Gap $page)
        if (-not ($found -match '^is not structured')) {
            $found += @(Get-Drift $page $command)
        }
        $found | ForEach-Object { "$($page.Name) $_" }
    }
}

# --- MAML

# PlatyPS 1.0.3 writes the description of the cmdlet to each input and output, and leaves examples as markdown.
function Repair-Command([Xml.XmlElement] $Element, $CommandHelp) {
    Repair-Type $Element.SelectNodes('command:inputTypes/command:inputType', $Names) $CommandHelp.Inputs
    Repair-Type $Element.SelectNodes('command:returnValues/command:returnValue', $Names) $CommandHelp.Outputs
    $examples = $Element.SelectNodes('command:examples/command:example', $Names)
    for ($i = 0; $i -lt $examples.Count; $i++) {
        Repair-Example $examples[$i] $CommandHelp.Examples[$i].Remarks
    }
    foreach ($link in $Element.SelectNodes('command:relatedLinks/maml:navigationLink', $Names)) {
        $uri = $link.SelectSingleNode('maml:uri', $Names)
        if ($uri.InnerText.EndsWith('.md')) {
            $uri.InnerText = ''
        }
        elseif (-not $uri.InnerText) {
            $null = $link.ParentNode.RemoveChild($link)
        }
    }
}

function Repair-Type($Elements, $Types) {
    for ($i = 0; $i -lt $Elements.Count; $i++) {
        Write-Paragraph $Elements[$i].SelectSingleNode('maml:description', $Names) $Types[$i].Description
    }
}

# The text before the code goes to the introduction, the code without its fence to the code, and all after it to the remarks.
function Repair-Example([Xml.XmlElement] $Example, [string] $Markdown) {
    $parts = [regex]::Split($Markdown, '(?ms)^```powershell\n(.*?)^```$')
    $introduction = $parts[0].Trim()
    # Get-Help shows the code right behind the introduction.
    Write-Paragraph $Example.SelectSingleNode('maml:introduction', $Names) ($introduction ? "$introduction`n`n" : '')
    $Example.SelectSingleNode('dev:code', $Names).InnerText = $parts[1].TrimEnd()
    # A blank line before the next example takes a paragraph of its own.
    Write-Paragraph $Example.SelectSingleNode('dev:remarks', $Names) ($parts[2] -replace '(?m)^```\w*(\n|\z)').Trim(), ' '
}

function Write-Paragraph([Xml.XmlElement] $Element, [string[]] $Text) {
    $Element.RemoveAll()
    foreach ($line in $Text) {
        $paragraph = $Element.OwnerDocument.CreateElement('maml:para', $Names.LookupNamespace('maml'))
        $paragraph.InnerText = $line
        $null = $Element.AppendChild($paragraph)
    }
}

function Export-Maml($Pages, [string] $Folder) {
    $commandHelp = @($Pages | ForEach-Object { Import-MarkdownCommandHelp $_.FullName })
    # It nests its output in a folder named after the module, one file for each assembly.
    foreach ($file in Export-MamlCommandHelp $commandHelp -OutputFolder "$Temporary/help") {
        $xml = [xml]::new()
        $xml.Load($file.FullName)
        foreach ($element in $xml.SelectNodes('//command:command', $Names)) {
            $name = $element.SelectSingleNode('command:details/command:name', $Names).InnerText
            Repair-Command $element ($commandHelp | Where-Object Title -EQ $name)
        }
        $null = $xml.InsertBefore($xml.CreateComment((Get-HelpMark $Help)), $xml.DocumentElement)
        $xml.Save((Join-Path $Folder $file.Name))
    }
}

# ---

$pages = Get-HelpPage $Help
$Temporary = Join-Path ([IO.Path]::GetTempPath()) ([IO.Path]::GetRandomFileName())
try {
    $module = Import-BareModule $Manifest $Temporary
    $problems = @(Get-Problem (Get-Command -Module $module.Name -CommandType Cmdlet, Function) $pages)
    if ($problems) {
        $problems
        throw "The help in $Help does not fit the cmdlets: $($problems.Count) differences, which are named above. Update-Help.ps1 brings it in line."
    }
    Export-Maml $pages (New-Item $Destination -ItemType Directory -Force).FullName
}
finally {
    Remove-Item $Temporary -Recurse -ErrorAction Ignore
}
