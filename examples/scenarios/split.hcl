# The WAN falls into two halves for an hour, then lets through one direction only for another,
# then is whole again. Inside its half, every region works on; nothing runs twice afterwards.
#
#     serai sim run examples/scenarios/split.hcl
#     serai sim run -var scale=0.1 examples/scenarios/split.hcl
variable "scale" {
  type    = number
  default = 1
}
variable "minutes" { # how long a fault lasts
  type    = number
  default = 60
}

scenario "split" {
  duration     = "${30 + 2 * var.minutes}m"
  settle       = "15m"
  start_spread = "20s"
  pools        = "formed"
}

region "r" {
  count = 6
  datacenter "d" {
    servers = 3
    nodes "node" {
      count  = max(5, ceil(500 * var.scale))
      cpu    = 16000
      memory = 32768
    }
  }
}

network {
  wan {
    latency = "50ms"
    jitter  = "10ms"
    loss    = 0.001
  }
}

dynamic "job" {
  for_each = range(1, 7)
  labels   = ["web-r${job.value}"]
  content {
    file   = "jobs/spilling.nomad.hcl"
    region = "r-${job.value}"
    at     = "60s"
    copies = ceil(20 * var.scale)
    every  = "200ms"
    count  = 50
  }
}
dynamic "job" { # these run on both sides
  for_each = [1, 6]
  labels   = ["wide-r${job.value}"]
  content {
    file   = "jobs/wide.nomad.hcl"
    region = "r-${job.value}"
    at     = "80s"
    copies = ceil(10 * var.scale)
    every  = "500ms"
    count  = 30
  }
}
arrivals "batch" {
  file     = "jobs/batch.nomad.hcl"
  process  = "poisson"
  rate     = "${max(1, 20 * var.scale)}/m"
  from     = "3m"
  until    = "${20 + 2 * var.minutes}m"
  region   = ["r-1", "r-3", "r-4", "r-6"]
  count    = "1..5"
  run_time = "lognormal(1m, 1, 20m)"
}

fault "partition" {
  at   = "10m"
  for  = "${var.minutes}m"
  from = ["r-1", "r-2", "r-3"]
  to   = ["r-4", "r-5", "r-6"]
}
fault "cut" {
  at   = "${15 + var.minutes}m"
  for  = "${var.minutes}m"
  from = ["r-1", "r-2", "r-3"]
  to   = ["r-4", "r-5", "r-6"]
}

goal "running" { # of what runs in one region, nothing is ever missing
  job  = "web-*"
  at   = "always"
  from = "5m"
}
goal "running" {
  job = "w*"
}
goal "converged" {
  within = "5m"
}
goal "refused" {}
goal "false-deaths" {}
