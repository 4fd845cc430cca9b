# Runs Exchange cmdlets for the Exchange kit. What is asked comes as JSON on standard input, and is only ever data.
# The answer is one marked line: base64 of JSON. Windows PowerShell 3 or later.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$WarningPreference = 'SilentlyContinue'
# How many mailboxes that refuse are told by name.
$refusedMax = 10

$answer = @{
    id = ''; ok = $false; code = 'cmdlet'; message = ''; server = $null; databases = @()
    mounted = 0; dismounted = 0; repointed = 0; left = 0; refused = @()
}

function Stop-With([string] $code, [string] $why) {
    $answer.code = $code
    throw $why
}

function Read-Database([string] $name) {
    $database = Get-MailboxDatabase -Identity $name -Status
    @{
        'name' = [string] $database.Name
        'server' = [string] $database.Server
        'mounted' = $database.Mounted
        'replication' = [string] $database.ReplicationType
        'log-prefix' = [string] $database.LogFilePrefix
        'edb' = [string] $database.EdbFilePath
    }
}

# Those of people: the mailboxes of the system are made anew with each database.
function Read-Mailboxes([string] $database) {
    @(Get-Mailbox -Database $database -ResultSize Unlimited |
        Where-Object { $_.ObjectClass -notmatch '(SystemAttendantMailbox|ExOleDbSystemMailbox)' })
}

try {
    $asked = [Console]::In.ReadToEnd() | ConvertFrom-Json
    $answer.id = [string] $asked.id
    if (-not (Get-Command -Name 'Mount-Database' -ErrorAction SilentlyContinue)) {
        foreach ($snapin in 'Microsoft.Exchange.Management.PowerShell.SnapIn', 'Microsoft.Exchange.Management.PowerShell.E2010') {
            Add-PSSnapin -Name $snapin -ErrorAction SilentlyContinue
        }
    }
    if (-not (Get-Command -Name 'Mount-Database' -ErrorAction SilentlyContinue)) {
        Stop-With 'no-cmdlets' 'the Exchange cmdlets are not installed on this node'
    }
    # Mailboxes may be of any domain of the forest.
    Set-ADServerSettings -ViewEntireForest $true

    $mailboxServer = Get-MailboxServer -Identity $asked.server
    $exchangeServer = Get-ExchangeServer -Identity $asked.server
    $answer.server = @{
        'name' = [string] $mailboxServer.Name
        'version' = [string] $exchangeServer.AdminDisplayVersion
        'dag' = [string] $mailboxServer.DatabaseAvailabilityGroup
    }

    $mounts = ('mount', 'restore') -contains $asked.action
    if ($mounts -and $answer.server.dag -ne '') {
        Stop-With 'dag-member' "$($asked.server) is a member of the database availability group $($answer.server.dag)"
    }
    foreach ($pair in $asked.databases) {
        $here = [string] $pair.here
        $database = Read-Database $here
        if ($mounts) {
            if ($database.replication -ne 'None') { Stop-With 'replicated' "the database $here has copies ($($database.replication))" }
            if ($database.server -ne $asked.server) { Stop-With 'other-server' "the database $here is of $($database.server)" }
        }
        if ($mounts -and $database.mounted -ne $true) {
            # Without its file an empty database would be made in its place.
            if (-not (Test-Path -LiteralPath $database.edb)) { Stop-With 'no-edb-file' "the file of $here is not there: $($database.edb)" }
            Set-MailboxDatabase -Identity $here -AllowFileRestore $true -Confirm:$false
            Mount-Database -Identity $here -Confirm:$false
            $answer.mounted++
        }
        if ($asked.action -eq 'dismount' -and $database.mounted -ne $false) {
            Dismount-Database -Identity $here -Confirm:$false
            $answer.dismounted++
        }
    }
    if ($asked.action -eq 'restore') {
        foreach ($pair in $asked.databases) {
            foreach ($other in $pair.others) {
                foreach ($mailbox in (Read-Mailboxes $other)) {
                    try {
                        Set-Mailbox -Identity ([string] $mailbox.Guid) -Database ([string] $pair.here) -Force -Confirm:$false
                        $answer.repointed++
                    } catch {
                        if ($answer.refused.Count -lt $refusedMax) {
                            $answer.refused += "$($mailbox.Name): $($_.Exception.Message)"
                        }
                    }
                }
                $answer.left += @(Read-Mailboxes $other).Count
            }
        }
    }
    foreach ($pair in $asked.databases) { $answer.databases += (Read-Database $pair.here) }
    foreach ($pair in $asked.databases) { foreach ($other in $pair.others) { $answer.databases += (Read-Database $other) } }
    $answer.ok = $true
    $answer.code = ''
} catch {
    $answer.message = [string] $_.Exception.Message
}
$json = $answer | ConvertTo-Json -Depth 4 -Compress
[Console]::Out.WriteLine('mainstay-answer ' + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json)))
