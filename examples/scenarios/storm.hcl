# An hour in which everything is bad at once: one agent in twenty stands still half of the time,
# a tenth of all packets is lost, all leaders are killed every minute.
#
#     serai sim run examples/scenarios/storm.hcl
#     serai sim run -var scale=0.1 examples/scenarios/storm.hcl
variable "scale" {
  type    = number
  default = 1
}
variable "minutes" { # how long a fault lasts
  type    = number
  default = 60
}

scenario "storm" {
  duration     = "${25 + var.minutes}m"
  settle       = "15m"
  start_spread = "20s"
  pools        = "formed"
}

region "r" {
  count = 5
  datacenter "d" {
    count   = 2
    servers = 5
    nodes "node" {
      count  = max(3, ceil(200 * var.scale))
      cpu    = 16000
      memory = 32768
    }
  }
}

network {
  wan {
    latency = "40ms"
    jitter  = "15ms"
  }
}

dynamic "job" {
  for_each = range(1, 6)
  labels   = ["web-r${job.value}"]
  content {
    file   = "jobs/service.nomad.hcl"
    region = "r-${job.value}"
    at     = "60s"
    copies = ceil(20 * var.scale)
    every  = "200ms"
    count  = 50
  }
}
arrivals "batch" {
  file     = "jobs/batch.nomad.hcl"
  process  = "poisson"
  rate     = "${max(2, 60 * var.scale)}/m"
  from     = "3m"
  until    = "${10 + var.minutes}m"
  region   = ["r-1", "r-2", "r-3", "r-4", "r-5"]
  count    = "1..5"
  run_time = "lognormal(1m, 1, 10m)"
}

fault "sick" {
  at       = "10m"
  for      = "${var.minutes}m"
  target   = "*/*/client"
  share    = 0.05
  period   = "4s"
  fraction = 0.5
}
fault "loss" {
  at       = "10m"
  for      = "${var.minutes}m"
  fraction = 0.1
}
fault "crash" {
  between = ["10m", "${10 + var.minutes}m"]
  every   = "1m"
  for     = "20s"
  target  = "*/*/leader"
  share   = 1
}

goal "availability" {
  at_least = 0.97
  from     = "5m"
}
goal "running" {
  job = "web-*"
}
goal "converged" {
  within = "10m"
}
goal "refused" {}
