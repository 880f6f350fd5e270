# Twelve minutes in which operators do all that operators do: new versions with canaries that are
# promoted, failed, reverted; jobs of every kind, dispatched, scaled, forced, stopped; drains,
# purges, preemption; servers taken out of their quorum; and every question the API answers, asked.
#
#     serai sim run examples/operators.hcl
scenario "operators" {
  duration = "12m"
  settle   = "150s"
}

region "eu" {
  datacenter "paris" {
    servers = 3
    nodes "small" {
      count = 4
      meta  = { rack = "r1" }
    }
    nodes "large" {
      count  = 2
      cpu    = 8000
      memory = 16384
      class  = "large"
      meta   = { rack = "r2" }
    }
  }
  datacenter "rome" {
    servers = 1
    nodes "small" {
      count = 3
      meta  = { rack = "r1" }
    }
  }
  datacenter "oslo" {
    servers = 1
    nodes "small" {
      count = 2
    }
  }
}
region "us" {
  datacenter "ohio" {
    servers = 1
    nodes "small" {
      count = 3
    }
  }
}

network {
  wan {
    latency = "40ms"
    jitter  = "5ms"
  }
}

call "Operator.SchedulerSet" { # jobs of low priority give way
  at = "12s"
  body = jsonencode({
    SchedulerAlgorithm = "binpack"
    PreemptionConfig = {
      SystemSchedulerEnabled  = true
      BatchSchedulerEnabled   = true
      ServiceSchedulerEnabled = true
    }
  })
}

job "web" {
  file = "operators/web.nomad.hcl"
  at   = "15s"
}

job "agent" {
  file = "operators/agent.nomad.hcl"
  at   = "16s"
}

job "scan" {
  file = "operators/scan.nomad.hcl"
  at   = "18s"
}

job "report" {
  file = "operators/report.nomad.hcl"
  at   = "17s"
}

job "mail" {
  file = "operators/mail.nomad.hcl"
  at   = "17s"
}

job "low" {
  file       = "operators/low.nomad.hcl"
  at         = "20s"
  datacenter = "paris"
}

job "alone" {
  file   = "operators/alone.nomad.hcl"
  at     = "22s"
  region = "us"
}

job "wide" {
  file  = "scenarios/jobs/wide.nomad.hcl"
  at    = "24s"
  count = 6
}
job "everywhere" {
  file = "operators/everywhere.nomad.hcl"
  at   = "28s"
}
job "everywhere-2" { # while a region is cut off
  file      = "operators/everywhere.nomad.hcl"
  at        = "320s"
  name      = "everywhere"
  variables = { version = "2" }
}
job "spilling" {
  file  = "scenarios/jobs/spilling.nomad.hcl"
  at    = "26s"
  count = 4
}

call "Job.Dispatch" {
  at    = "40s"
  job   = "mail"
  every = "35s"
  body  = jsonencode({ Meta = { to = "me" }, Payload = "aGVsbG8=" })
}

call "Job.Dispatch" {
  at   = "45s"
  job  = "mail"
  body = jsonencode({})
}

call "Job.PeriodicForce" {
  at  = "50s"
  job = "report"
}

call "Job.Scale" {
  at   = "60s"
  job  = "web"
  body = jsonencode({ Count = 6, Target = { Group = "web" }, Message = "more" })
}

# A new version whose canary is promoted, one that fails and is reverted, one by hand.
job "web-2" {
  file      = "operators/web.nomad.hcl"
  at        = "90s"
  name      = "web"
  variables = { version = "2" }
}

call "Deployment.Promote" {
  at   = "120s"
  job  = "web"
  body = jsonencode({ All = true })
}

call "Deployment.Pause" {
  at   = "131s"
  job  = "web"
  body = jsonencode({ Pause = true })
}

call "Deployment.Pause" {
  at   = "135s"
  job  = "web"
  body = jsonencode({ Pause = false })
}

job "web-3" {
  file      = "operators/web.nomad.hcl"
  at        = "190s"
  name      = "web"
  variables = { version = "3", exit_code = 1, run_time = "2s", canaries = 0 }
}
job "web-4" {
  file      = "operators/web.nomad.hcl"
  at        = "300s"
  name      = "web"
  variables = { version = "4", auto_promote = true }
}

call "Job.Revert" {
  at   = "345s"
  job  = "web"
  body = jsonencode({ JobVersion = 2 })
}

call "Deployment.Fail" {
  at  = "350s"
  job = "web"
}

call "Job.Stable" {
  at   = "85s"
  job  = "web"
  body = jsonencode({ JobVersion = 0, Stable = true })
}

call "Job.TagVersion" {
  at     = "86s"
  job    = "web"
  params = { name = "good" }
  body   = jsonencode({ Version = 0, Description = "the good one" })
}

call "Job.UntagVersion" {
  at     = "88s"
  job    = "web"
  params = { name = "good" }
}

job "urgent" {
  file       = "operators/low.nomad.hcl"
  at         = "140s"
  datacenter = "paris"
  variables  = { priority = 90 }
}

call "Alloc.Stop" {
  at  = "150s"
  job = "low"
}

call "Client.Restart" {
  at   = "155s"
  job  = "web"
  body = jsonencode({ AllTasks = true })
}

call "Client.Signal" {
  at   = "158s"
  job  = "wide"
  body = jsonencode({ Signal = "SIGHUP" })
}

call "Client.Logs" {
  at     = "160s"
  job    = "wide"
  params = { task = "server", type = "stdout" }
}

call "Client.FS.List" {
  at     = "161s"
  job    = "wide"
  params = { path = "/" }
}

call "Client.FS.Stat" {
  at     = "161s"
  job    = "wide"
  params = { path = "/" }
}

call "Client.FS.Cat" {
  at     = "161s"
  job    = "wide"
  params = { path = "/" }
}

call "Client.Checks" {
  at  = "162s"
  job = "web"
}

call "Client.AllocStats" {
  at  = "162s"
  job = "web"
}

call "Client.Stats" {
  at   = "163s"
  node = "eu/paris/client"
}

call "Node.Eligibility" {
  at   = "165s"
  node = "eu-rome-small-1"
  body = jsonencode({ Eligibility = "ineligible" })
}

call "Node.Eligibility" {
  at   = "200s"
  node = "eu-rome-small-1"
  body = jsonencode({ Eligibility = "eligible" })
}

call "Node.Evaluate" {
  at   = "201s"
  node = "eu-rome-small-1"
}

call "Job.Evaluate" {
  at   = "202s"
  job  = "wide"
  body = jsonencode({ EvalOptions = { ForceReschedule = true } })
}

call "NodePool.Upsert" {
  at     = "205s"
  params = { name = "special" }
  body   = jsonencode({ Name = "special", Description = "of its own" })
}

call "NodePool.Delete" {
  at     = "240s"
  params = { name = "special" }
}

call "ACL.Bootstrap" {
  at = "210s"
}

call "System.GC" {
  at = "260s"
}

call "System.ReconcileSummaries" {
  at = "261s"
}

call "Operator.RaftVerify" {
  at         = "262s"
  datacenter = "paris"
}

call "Operator.AutopilotSet" {
  at         = "263s"
  datacenter = "paris"
  body       = jsonencode({ CleanupDeadServers = true, MaxTrailingLogs = 250 })
}

call "Operator.TransferLeadership" {
  at         = "270s"
  datacenter = "paris"
}

call "Operator.SnapshotOpen" {
  at         = "275s"
  datacenter = "paris"
}

call "Operator.RaftMeasure" {
  at         = "276s"
  datacenter = "paris"
  body       = jsonencode({ Size = 100, Window = 4, Seconds = 2 })
}

call "Job.Plan" {
  at   = "280s"
  job  = "web"
  body = jsonencode({ Diff = true, Job = { ID = "web", Name = "web", Type = "service", TaskGroups = [{ Name = "web", Count = 9, Tasks = [{ Name = "server", Driver = "raw_exec", Config = { command = "sleep" } }] }] } })
}

call "Job.Validate" {
  at   = "281s"
  body = jsonencode({ Job = { ID = "web", TaskGroups = [] } })
}

call "Scaling.GetPolicy" {
  at     = "282s"
  params = { id = "none" }
}

call "Job.Get" {
  at  = "170s"
  job = "web"
}

call "Job.Allocations" {
  at  = "170s"
  job = "web"
}

call "Job.Evaluations" {
  at  = "170s"
  job = "web"
}

call "Job.Deployments" {
  at  = "170s"
  job = "web"
}

call "Job.LatestDeployment" {
  at  = "170s"
  job = "web"
}

call "Job.Summary" {
  at  = "170s"
  job = "web"
}

call "Job.ScaleStatus" {
  at  = "170s"
  job = "web"
}

call "Job.Shares" {
  at  = "170s"
  job = "web"
}

call "Job.Services" {
  at  = "170s"
  job = "web"
}

call "Job.Why" {
  at  = "170s"
  job = "web"
}

call "Eval.Get" {
  at  = "170s"
  job = "web"
}

call "Eval.Allocations" {
  at  = "170s"
  job = "web"
}

call "Deployment.Get" {
  at  = "170s"
  job = "web"
}

call "Deployment.Allocations" {
  at  = "170s"
  job = "web"
}

call "Alloc.Get" {
  at  = "170s"
  job = "web"
}

call "Alloc.Services" {
  at  = "170s"
  job = "web"
}

call "Job.Submission" {
  at     = "170s"
  job    = "web"
  params = { version = "0" }
}

call "Job.Versions" {
  at     = "171s"
  job    = "web"
  params = { diffs = "true" }
}

call "Job.List" {
  at = "172s"
}

call "Alloc.List" {
  at = "172s"
}

call "Eval.List" {
  at = "172s"
}

call "Eval.Count" {
  at = "172s"
}

call "Deployment.List" {
  at = "172s"
}

call "Node.List" {
  at = "172s"
}

call "NodePool.List" {
  at = "172s"
}

call "Scaling.ListPolicies" {
  at = "172s"
}

call "Service.List" {
  at = "172s"
}

call "Namespace.List" {
  at = "172s"
}

call "Status.Leader" {
  at = "172s"
}

call "Status.Peers" {
  at = "172s"
}

call "Region.List" {
  at = "172s"
}

call "Agent.Self" {
  at = "172s"
}

call "Agent.Members" {
  at = "172s"
}

call "Agent.Nodes" {
  at = "172s"
}

call "Agent.Health" {
  at = "172s"
}

call "Agent.Servers" {
  at = "172s"
}

call "Agent.Keyring.List" {
  at = "172s"
}

call "Federation.Status" {
  at = "172s"
}

call "Authority.Status" {
  at = "172s"
}

call "Authority.Own" {
  at = "172s"
}

call "Datacenter.Drain" {
  at = "172s"
}

call "Datacenter.Adoptions" {
  at = "172s"
}

call "ACL.Token.List" {
  at = "172s"
}

call "Operator.RaftConfiguration" {
  at = "172s"
}

call "Operator.AutopilotGet" {
  at = "172s"
}

call "Operator.AutopilotHealth" {
  at = "172s"
}

call "Operator.SchedulerGet" {
  at = "172s"
}

call "Job.List" {
  at        = "173s"
  namespace = "*"
  params    = { filter = "Status == \"running\" and Name matches \"w.*\"", per_page = "2" }
}

call "Node.Get" {
  at   = "174s"
  node = "eu/paris/client"
}

call "Node.AllocationsOf" {
  at   = "174s"
  node = "eu/paris/client"
}

call "NodePool.Get" {
  at     = "174s"
  params = { name = "default" }
}

call "NodePool.Nodes" {
  at     = "174s"
  params = { name = "default" }
}

call "NodePool.Jobs" {
  at     = "174s"
  params = { name = "default" }
}

call "Service.Get" {
  at     = "175s"
  params = { name = "web" }
}

call "Namespace.Get" {
  at     = "175s"
  params = { name = "default" }
}

call "Search.Prefix" {
  at   = "176s"
  body = jsonencode({ Prefix = "w", Context = "all" })
}

call "Search.Fuzzy" {
  at   = "176s"
  body = jsonencode({ Text = "we", Context = "all" })
}

call "Agent.Join" {
  at     = "177s"
  params = { address = "us-ohio-server-1:4648" }
}

call "Job.List" {
  at     = "178s"
  params = { filter = "Name != \"x\" or not (Count == 1)" }
}

call "Job.List" {
  at     = "178s"
  params = { filter = "Name contains \"e\"" }
}

call "Job.List" {
  at     = "178s"
  params = { filter = "Meta is empty" }
}

call "Job.List" {
  at     = "178s"
  params = { filter = "\"batch\" in Type" }
}

call "Job.List" {
  at     = "178s"
  params = { filter = "Status is not empty and ID matches \"^(web|wi.e)[a-z]*$\"" }
}

call "Node.List" {
  at     = "178s"
  params = { filter = "Status == \"ready\"", resources = "true", os = "true", reverse = "true", per_page = "3" }
}

call "Alloc.List" {
  at     = "178s"
  params = { filter = "ClientStatus == \"running\"", resources = "true", prefix = "0", task_states = "false" }
}

call "Job.Start" {
  at         = "500s"
  job        = "low"
  datacenter = "paris"
}

call "Job.Deregister" {
  at  = "492s"
  job = "low"
}

call "Deployment.SetAllocHealth" {
  at   = "303s"
  job  = "web"
  body = jsonencode({ HealthyAllocationIDs = [], UnhealthyAllocationIDs = [] })
}

call "Eval.Delete" {
  at   = "182s"
  body = jsonencode({ EvalIDs = ["00000000-0000-0000-0000-000000000000"] })
}
fault "maintenance" {
  at     = "210s"
  target = "eu/paris/client"
  count  = 2
  batch  = 1
  for    = "20s"
  down   = "10s"
}
fault "partition" {
  at   = "310s"
  for  = "70s"
  from = "us"
}
fault "power" { # its work is begun elsewhere meanwhile, and ends here when it comes back
  at     = "330s"
  for    = "100s"
  target = "eu-paris-small-2"
}
fault "restart" {
  at     = "400s"
  target = "eu/paris/server, eu/paris/client"
  share  = 1
  batch  = 3
  down   = "3s"
  gap    = "6s"
}
fault "drain-datacenter" {
  at     = "430s"
  target = "eu/oslo"
}
fault "authority" {
  at     = "440s"
  target = "eu/rome"
}
fault "remove-peer" {
  at     = "455s"
  target = "eu/paris/follower"
}
fault "stop-job" {
  at  = "460s"
  for = "30s"
  job = "wide"
}
fault "power" { # lost for good
  at     = "470s"
  target = "eu-rome-small-3"
}
fault "force-leave" {
  at     = "480s"
  target = "eu-rome-small-3"
}
stop "spilling" {
  at     = "480s"
  region = "eu"
  purge  = true
}

call "Node.Purge" {
  at   = "560s"
  node = "eu-rome-small-3"
}

call "Datacenter.Leave" {
  at         = "540s"
  datacenter = "oslo"
}

call "System.GC" {
  at = "565s"
}

goal "running" {
  job = "wide"
}
goal "running" {
  job = "web"
}
goal "acknowledged" {
  at_least = 90
}
