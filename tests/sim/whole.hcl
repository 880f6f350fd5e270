# The world of `python -m sim.whole`: every kind of job, operators at work, and the faults of a
# seed among it, which are over at half time. Two minutes later all that is wanted must run.
scenario "whole" {
  duration = "320s"
  settle   = "170s"
}

region "eu" {
  datacenter "paris" {
    servers = 3
    nodes "small" {
      count = 3
      meta  = { rack = "r1" }
    }
  }
  datacenter "rome" {
    servers = 1
    nodes "small" {
      count = 2
      meta  = { rack = "r2" }
    }
  }
}

region "us" {
  datacenter "ohio" {
    servers = 3
    nodes "large" {
      count  = 2
      cpu    = 8000
      memory = 16384
    }
  }
}

network {
  wan {
    latency = "40ms"
    jitter  = "5ms"
  }
}

job "web" {
  file       = "../../examples/operators/web.nomad.hcl"
  at         = "14s"
  datacenter = "paris"
}

job "agent" {
  file       = "../../examples/operators/agent.nomad.hcl"
  at         = "15s"
  datacenter = "paris"
}

job "report" {
  file       = "../../examples/operators/report.nomad.hcl"
  at         = "16s"
  region     = "us"
  datacenter = "ohio"
}

job "mail" {
  file       = "../../examples/operators/mail.nomad.hcl"
  at         = "16s"
  region     = "us"
  datacenter = "ohio"
}

job "wide" {
  file  = "../../examples/scenarios/jobs/wide.nomad.hcl"
  at    = "18s"
  count = 5
}

job "spilling" {
  file   = "../../examples/scenarios/jobs/spilling.nomad.hcl"
  at     = "20s"
  region = "eu"
  count  = 4
}

job "batch" {
  file   = "../../examples/sim-batch.nomad.hcl"
  at     = "25s"
  region = "us"
  copies = 2
}

call "Job.Dispatch" {
  at     = "30s"
  region = "us"
  job    = "mail"
  every  = "25s"
  body   = jsonencode({ Meta = { to = "me" }, Payload = "aGVsbG8=" })
}

call "Job.Scale" {
  at   = "45s"
  job  = "wide"
  body = jsonencode({ Count = 7, Target = { Group = "web" }, Message = "more" })
}

job "web-2" {
  file       = "../../examples/operators/web.nomad.hcl"
  at         = "60s"
  name       = "web"
  datacenter = "paris"
  variables  = { version = "2", auto_promote = true }
}

call "Node.Drain" {
  at   = "85s"
  node = "eu-paris-small-1"
  body = jsonencode({ DrainSpec = { Deadline = 60000000000 } })
}

call "Node.Eligibility" {
  at   = "140s"
  node = "eu-paris-small-1"
  body = jsonencode({ Eligibility = "eligible" })
}

call "Job.Scale" {
  at   = "110s"
  job  = "wide"
  body = jsonencode({ Count = 5, Target = { Group = "web" }, Message = "fewer" })
}

call "Client.Restart" {
  at   = "120s"
  job  = "spilling"
  body = jsonencode({ AllTasks = true })
}

job "wide-2" {
  file  = "../../examples/scenarios/jobs/wide.nomad.hcl"
  at    = "130s"
  name  = "wide"
  count = 5
}

goal "running" {
  job   = "wide"
  count = 5
}

goal "running" {
  job   = "spilling"
  count = 4
}
