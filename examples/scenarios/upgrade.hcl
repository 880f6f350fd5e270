# A new version: every server, then every client is restarted batch by batch under load. While it
# lasts, servers of two schemas stand side by side; the schema rises when the last one follows.
#
#     serai sim run examples/scenarios/upgrade.hcl
#     serai sim run -var scale=0.1 examples/scenarios/upgrade.hcl
variable "scale" {
  type    = number
  default = 1
}

scenario "upgrade" {
  duration     = "75m"
  settle       = "10m"
  start_spread = "20s"
  pools        = "formed"
}

region "r" {
  count = 3
  datacenter "d" {
    count   = 2
    servers = 3
    schema  = 1
    nodes "node" {
      count  = max(3, ceil(300 * var.scale))
      cpu    = 16000
      memory = 32768
    }
  }
}

network {
  wan {
    latency = "40ms"
    jitter  = "5ms"
    loss    = 0.001
  }
}

dynamic "job" {
  for_each = range(1, 4)
  labels   = ["web-r${job.value}"]
  content {
    file   = "jobs/service.nomad.hcl"
    region = "r-${job.value}"
    at     = "60s"
    copies = ceil(30 * var.scale)
    every  = "200ms"
    count  = 50
  }
}
arrivals "batch" {
  file     = "jobs/batch.nomad.hcl"
  process  = "poisson"
  rate     = "${max(2, 30 * var.scale)}/m"
  from     = "3m"
  until    = "60m"
  region   = ["r-1", "r-2", "r-3"]
  count    = "1..5"
  run_time = "lognormal(1m, 1, 10m)"
}

fault "upgrade" { # one server at a time, over all datacenters
  at     = "10m"
  target = "*/*/server"
  share  = 1
  batch  = 1
  down   = "15s"
  gap    = "45s"
  schema = 2
}
fault "upgrade" { # then the clients; their processes run on
  at     = "32m"
  target = "*/*/client"
  share  = 1
  batch  = ceil(30 * var.scale)
  down   = "5s"
  gap    = "15s"
  schema = 2
}

goal "schema" {
  at_least = 2
}
goal "availability" {
  at_least = 0.999
  from     = "5m"
}
goal "running" {
  job = "web-*"
}
goal "lost" {}
goal "refused" {}
