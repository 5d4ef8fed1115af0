#Requires -Version 7.6
#Requires -Modules @{ ModuleName = 'Microsoft.PowerShell.PlatyPS'; ModuleVersion = '1.0.3' }
<#
.SYNOPSIS
Makes the help that Get-Help finds from the markdown pages, if they say what the cmdlets do.
.DESCRIPTION
Compares the pages with the cmdlets of a staged module: cmdlets, parameters, types, aliases, parameter sets, inputs and outputs. On any
difference, and where a page is not finished, it names page and difference, fails, and writes nothing. Update-Help.ps1 brings the pages in line.
.EXAMPLE
./docs/Export-Help.ps1 docs/help out/KvmTsc/KvmTsc.psd1 out/KvmTsc/en-US
#>
[CmdletBinding()]
param(
    # The folder of the markdown pages.
    [Parameter(Mandatory, Position = 0)]
    [string] $Help,

    # The manifest of the staged module.
    [Parameter(Mandatory, Position = 1)]
    [string] $Manifest,

    # The folder for the help, en-US beside the manifest; made anew.
    [Parameter(Mandatory, Position = 2)]
    [string] $Destination
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$Utf8 = [Text.UTF8Encoding]::new($false)
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
    $help = @($Pages | ForEach-Object { Import-MarkdownCommandHelp $_.FullName })
    $temporary = Join-Path ([IO.Path]::GetTempPath()) ([IO.Path]::GetRandomFileName())
    try {
        # It nests its output in a folder named after the module, one file for each assembly.
        foreach ($file in Export-MamlCommandHelp $help -OutputFolder $temporary) {
            $xml = [xml]::new()
            $xml.Load($file.FullName)
            foreach ($element in $xml.SelectNodes('//command:command', $Names)) {
                $name = $element.SelectSingleNode('command:details/command:name', $Names).InnerText
                Repair-Command $element ($help | Where-Object Title -EQ $name)
            }
            $xml.Save((Join-Path $Folder $file.Name))
        }
    }
    finally {
        Remove-Item $temporary -Recurse -ErrorAction Ignore
    }
}

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

$pages = Get-ChildItem (Resolve-Path $Help).ProviderPath -Filter *.md
$topics = @($pages | Where-Object BaseName -Like about_*)
$pages = @($pages | Where-Object BaseName -NotLike about_*)

# Help that is there already would be read along with the cmdlets.
if (Test-Path $Destination) {
    Remove-Item $Destination -Recurse
}
$module = Import-Module (Resolve-Path $Manifest).ProviderPath -PassThru
$problems = @(Get-Problem (Get-Command -Module $module.Name -CommandType Cmdlet, Function) $pages)
if ($problems) {
    $problems
    throw "The help in $Help does not fit the cmdlets: $($problems.Count) differences, which are named above. Update-Help.ps1 brings it in line."
}

$texts = @{}
foreach ($topic in $topics) {
    $texts["$($topic.BaseName).help.txt"] = (ConvertTo-AboutText ([IO.File]::ReadAllText($topic.FullName))) -join "`n"
}
$Destination = (New-Item $Destination -ItemType Directory).FullName
Export-Maml $pages $Destination
foreach ($name in $texts.Keys) {
    [IO.File]::WriteAllText((Join-Path $Destination $name), "$($texts[$name])`n", $Utf8)
}
