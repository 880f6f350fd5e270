# One LAN pool of 10,000 members: one datacenter, the largest that is recommended. Nodes are lost,
# paused and sick; no node that is well may be called dead.
#
#     serai sim run examples/scenarios/flat-10k.hcl
#     serai sim run -var scale=0.1 examples/scenarios/flat-10k.hcl
variable "scale" {
  type    = number
  default = 1
}

scenario "flat-10k" {
  duration     = "30m"
  settle       = "10m"
  start_spread = "60s"
  pools        = "formed"
}

region "r" {
  datacenter "d" {
    servers = 5
    nodes "node" {
      count  = ceil(9995 * var.scale)
      cpu    = 16000
      memory = 32768
    }
  }
}

network {
  lan {
    latency = "250us"
    jitter  = "200us"
    loss    = 0.001
  }
}

job "web" {
  file   = "jobs/service.nomad.hcl"
  at     = "2m"
  copies = ceil(50 * var.scale)
  every  = "500ms"
  count  = 100
}

fault "power" {
  at     = "6m"
  for    = "8m"
  target = "r/d/client"
  share  = 0.01
}
fault "sick" {
  at       = "8m"
  for      = "8m"
  target   = "r/d/client"
  share    = 0.01
  period   = "4s"
  fraction = 0.25
}
fault "loss" {
  at       = "12m"
  for      = "6m"
  fraction = 0.05
}
fault "crash" {
  at     = "10m"
  for    = "30s"
  target = "r/d/leader"
}

goal "running" {
  job = "web*"
}
goal "detection" {
  quantile = 0.9
  at_most  = "30s"
}
goal "false-deaths" {}
goal "bandwidth" {
  at_most = "10 kB/s"
  from    = "3m"
}
goal "converged" {
  within = "5m"
}
goal "refused" {}
