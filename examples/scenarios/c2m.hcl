# Two million: ten regions of 1,000 nodes each, 200 instances on every node.
#
#     serai sim run examples/scenarios/c2m.hcl
#     serai sim run -var scale=0.1 examples/scenarios/c2m.hcl    # 1,000 nodes, 200,000 instances
variable "scale" {
  type    = number
  default = 1
}
variable "regions" {
  type    = number
  default = 10
}
variable "jobs" { # in each region; each has the same part of the region's instances
  type    = number
  default = 40
}

locals {
  nodes     = ceil(1000 * var.scale)
  instances = local.nodes * 200
  each      = ceil(local.instances / var.jobs)
}

scenario "c2m" {
  duration     = "6m"
  start_spread = "20s"
  pools        = "formed"
}

region "r" {
  count = var.regions
  datacenter "a" {
    servers = 3
    nodes "node" {
      count  = local.nodes
      cpu    = 24000 # room for 240 instances
      memory = 65536
      disk   = 200000
    }
  }
}

network {
  wan {
    latency = "40ms"
    jitter  = "5ms"
    loss    = 0.0001
  }
}

dynamic "job" {
  for_each = range(1, var.regions + 1)
  labels   = ["app-r${job.value}"]
  content {
    file   = "jobs/instance.nomad.hcl"
    region = "r-${job.value}"
    at     = "40s"
    copies = var.jobs
    every  = "2s"
    count  = local.each
  }
}

goal "placed" {
  at_least = var.regions * var.jobs * local.each
}
goal "running" {
  job = "app-*"
}
goal "reported" {
  at_least = var.regions * var.jobs * local.each
}
goal "refused" {}
goal "lost" {}
goal "queue-wait" {
  quantile = 0.99
  at_most  = "2m"
}
