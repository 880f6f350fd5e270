# A fifth of all nodes vanishes at once: all of region r-5, and a datacenter of r-4; they come back
# an hour later. Who is homed and runs elsewhere does not notice. What is homed elsewhere and ran
# there in part is whole again minutes later, by copies (partition = "surge"). What is homed in r-5
# waits. The datacenter of r-4 is declared off by an operator, and its jobs are adopted by another:
# from then on they are whole. When all is back, r-5 goes on, the one that was declared off stops
# what it runs, and no index runs twice.
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

locals {
  nodes = max(5, ceil(1000 * var.scale))
}

region "r" {
  count = 3
  datacenter "d" {
    count   = 2
    servers = 3
    nodes "node" {
      count  = local.nodes
      cpu    = 16000
      memory = 32768
    }
  }
}
region "r-4" {
  datacenter "d" {
    count   = 3
    servers = 3
    nodes "node" {
      count  = local.nodes
      cpu    = 16000
      memory = 32768
    }
  }
}
region "r-5" {
  datacenter "d-1" {
    servers = 3
    nodes "node" {
      count  = local.nodes
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

# Services of each region that survives, ones that are spread over all, and of what is lost.
dynamic "job" {
  for_each = range(1, 5)
  labels   = ["near-r${job.value}"]
  content {
    file       = "jobs/spilling.nomad.hcl"
    region     = "r-${job.value}"
    datacenter = "d-1"
    at         = "60s"
    copies     = ceil(50 * var.scale)
    every      = "200ms"
    count      = 100
  }
}
dynamic "job" {
  for_each = range(1, 5)
  labels   = ["wide-r${job.value}"]
  content {
    file       = "jobs/wide.nomad.hcl"
    region     = "r-${job.value}"
    datacenter = "d-1"
    at         = "80s"
    copies     = ceil(20 * var.scale)
    every      = "500ms"
    count      = 50
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

job "left" { # may not run in r-5: an adoption waits for all datacenters that may hold a part
  file       = "jobs/spilling.nomad.hcl"
  variables  = { regions = "[\"r-1\", \"r-2\", \"r-3\"]" }
  region     = "r-4"
  datacenter = "d-3"
  at         = "60s"
  copies     = ceil(50 * var.scale)
  every      = "200ms"
  count      = 100
}

fault "authority" { # so that no authority is lost with d-3
  at     = "3m"
  target = "r-4/d-1"
}
fault "datacenter-loss" {
  at     = "10m"
  for    = "${var.minutes}m"
  target = ["r-5", "r-4/d-3"]
}
fault "datacenter-off" { # an operator's word
  at     = "12m"
  target = "r-4/d-3"
}
fault "adopt" {
  at     = "13m"
  target = "r-4/d-3"
  by     = "d-2"
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
goal "running" { # adopted, and never missing again
  job  = "left*"
  at   = "always"
  from = "18m"
}
goal "running" {
  job = "l*"
  at  = "9m"
}
goal "running" { # what came back is whole, and nothing runs twice
  job = "lost*"
}
goal "converged" {
  within = "10m"
}
goal "refused" {}
