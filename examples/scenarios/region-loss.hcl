# A fifth of all nodes vanishes at once: region r-5 goes dark, and comes back an hour later. Who is
# homed and runs elsewhere does not notice. What is homed elsewhere and ran there in part is whole
# again minutes later, by copies (partition = "surge"). What is homed there waits. When the region
# is back, all is whole, and no index runs twice.
#
#     serai sim run examples/scenarios/region-loss.hcl
#     serai sim run -var scale=0.1 examples/scenarios/region-loss.hcl
variable "scale" {
  type    = number
  default = 1
}
variable "minutes" { # how long a fault lasts
  type    = number
  default = 60
}

scenario "region-loss" {
  duration     = "${30 + var.minutes}m"
  settle       = "10m"
  start_spread = "20s"
  pools        = "formed"
}

region "r" {
  count = 5
  datacenter "d" {
    count   = 2
    servers = 3
    nodes "node" {
      count  = max(5, ceil(1000 * var.scale))
      cpu    = 16000
      memory = 32768
    }
  }
}

network {
  wan {
    latency = "60ms"
    jitter  = "10ms"
    loss    = 0.001
  }
}

# Services of each region that survives, ones that are spread over all, and of the one that is lost.
dynamic "job" {
  for_each = range(1, 5)
  labels   = ["near-r${job.value}"]
  content {
    file   = "jobs/spilling.nomad.hcl"
    region = "r-${job.value}"
    at     = "60s"
    copies = ceil(50 * var.scale)
    every  = "200ms"
    count  = 100
  }
}
dynamic "job" {
  for_each = range(1, 5)
  labels   = ["wide-r${job.value}"]
  content {
    file   = "jobs/wide.nomad.hcl"
    region = "r-${job.value}"
    at     = "80s"
    copies = ceil(20 * var.scale)
    every  = "500ms"
    count  = 50
  }
}
job "lost" {
  file   = "jobs/spilling.nomad.hcl"
  region = "r-5"
  at     = "60s"
  copies = ceil(50 * var.scale)
  every  = "200ms"
  count  = 100
}

fault "datacenter-loss" {
  at     = "10m"
  for    = "${var.minutes}m"
  target = "r-5"
}

goal "running" { # who is homed elsewhere does not notice
  job  = "near-*"
  at   = "always"
  from = "5m"
}
goal "running" { # copies make whole what ran there in part
  job   = "wide-*"
  at    = "always"
  from  = "15m"
  until = "${10 + var.minutes}m"
}
goal "running" {
  job = "wide-*"
}
goal "running" {
  job = "lost*"
  at  = "9m"
}
goal "running" { # what came back is whole, and nothing runs twice
  job = "lost*"
}
goal "converged" {
  within = "10m"
}
goal "refused" {}
