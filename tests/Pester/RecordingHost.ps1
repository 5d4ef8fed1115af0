# A PowerShell host that answers every question the same way, and notes the questions and what -WhatIf says.
# It is what this script writes. NoRunspaceAffinity: its methods are called from the runspace that it hosts.
using namespace System.Collections.ObjectModel
using namespace System.Management.Automation
using namespace System.Management.Automation.Host

[NoRunspaceAffinity()]
class RecordingUI : PSHostUserInterface {
    [Collections.Generic.List[string]] $Lines = @()
    [Collections.Generic.List[string]] $Questions = @()
    [string] $Answer

    [PSHostRawUserInterface] get_RawUI() { return $null }
    [void] Write([string] $value) { $this.Lines.Add($value) }
    [void] Write([ConsoleColor] $foreground, [ConsoleColor] $background, [string] $value) { $this.Lines.Add($value) }
    [void] WriteLine([string] $value) { $this.Lines.Add($value) }
    [void] WriteErrorLine([string] $value) { $this.Lines.Add($value) }
    [void] WriteWarningLine([string] $value) { $this.Lines.Add($value) }
    [void] WriteDebugLine([string] $value) { $this.Lines.Add($value) }
    [void] WriteVerboseLine([string] $value) { $this.Lines.Add($value) }
    [void] WriteProgress([long] $sourceId, [ProgressRecord] $progress) { $this.Lines.Add($progress) }
    [string] ReadLine() { throw 'Nobody is there.' }
    [securestring] ReadLineAsSecureString() { throw 'Nobody is there.' }
    [Collections.Generic.Dictionary[string, psobject]] Prompt([string] $caption, [string] $message, [Collection[FieldDescription]] $fields) {
        throw 'Nobody is there.'
    }
    [pscredential] PromptForCredential([string] $caption, [string] $message, [string] $user, [string] $target) { throw 'Nobody is there.' }
    [pscredential] PromptForCredential(
        [string] $caption, [string] $message, [string] $user, [string] $target, [PSCredentialTypes] $types, [PSCredentialUIOptions] $options) {
        throw 'Nobody is there.'
    }
    [int] PromptForChoice([string] $caption, [string] $message, [Collection[ChoiceDescription]] $choices, [int] $default) {
        $this.Questions.Add($message)
        $labels = @($choices.Label -replace '&')
        if ($this.Answer -notin $labels) {
            throw "There is no answer '$($this.Answer)' to: $message"
        }
        return $labels.IndexOf($this.Answer)
    }
}

[NoRunspaceAffinity()]
class RecordingHost : PSHost {
    [RecordingUI] $Recording = [RecordingUI]::new()
    [guid] $Id = [guid]::NewGuid()

    [cultureinfo] get_CurrentCulture() { return [cultureinfo]::InvariantCulture }
    [cultureinfo] get_CurrentUICulture() { return [cultureinfo]::InvariantCulture }
    [guid] get_InstanceId() { return $this.Id }
    [string] get_Name() { return 'RecordingHost' }
    [PSHostUserInterface] get_UI() { return $this.Recording }
    [version] get_Version() { return '1.0' }
    [void] EnterNestedPrompt() { throw 'Nobody is there.' }
    [void] ExitNestedPrompt() { }
    [void] NotifyBeginApplication() { }
    [void] NotifyEndApplication() { }
    [void] SetShouldExit([int] $code) { }
}

[RecordingHost]::new()
