# A day of 20 datacenters in five regions: 10,000 nodes, jobs that come and go, nodes that fail,
# a datacenter under maintenance each hour. The rates are those of published measurements:
#
#   batch jobs   Reiss et al., "Heterogeneity and dynamicity of clouds at scale" (SoCC 2012), on
#                Google's cluster trace of May 2011: 672,074 jobs in 29 days on 12,583 machines,
#                which is 16 a minute; most jobs have one task and a few have thousands, most run
#                for minutes and a few for days. The swing over the day is an assumption.
#   services     Azure's public trace of 2017 (AzurePublicDatasetV1): 2,013,767 machines created
#                in 30 days, 104,371,713 machine hours, which is 47 a minute and 52 hours each. A
#                tenth of that here, as a service here stands for three machines and more.
#   failures     J. Dean, "Designs, lessons and advice from building large distributed systems"
#                (LADIS 2009), a cluster's first year, some 2,000 machines: 1,000 machine failures
#                (here 10,000 machines: 14 a day), 20 racks of 40 to 80 machines lost for 1 to 6
#                hours (one in four days), 5 racks that lose half of their packets (one in 15
#                days). Racks are lost and sick once in this day, so that every run sees it.
#
#     serai sim run examples/scenarios/steady-day.hcl
#     serai sim run -var scale=0.1 -until 1h examples/scenarios/steady-day.hcl
variable "scale" {
  type    = number
  default = 1
}

locals {
  nodes = max(5, ceil(500 * var.scale))
}

scenario "steady-day" {
  duration     = "24h"
  settle       = "10m"
  start_spread = "20s"
  pools        = "formed"
}

region "r" {
  count = 5
  datacenter "d" {
    count   = 4
    servers = 3
    nodes "small" {
      count  = ceil(local.nodes * 0.7)
      cpu    = 16000
      memory = 32768
    }
    nodes "large" {
      count  = floor(local.nodes * 0.3)
      cpu    = 64000
      memory = 262144
    }
  }
}

network {
  lan {
    latency = "200us"
    jitter  = "100us"
    loss    = 0.00001
  }
  wan {
    latency = "45ms"
    jitter  = "10ms"
    loss    = 0.001
  }
  link "r-1" "r-2" {
    latency = "12ms"
    jitter  = "2ms"
  }
}

# What runs when the day begins.
dynamic "job" {
  for_each = range(1, 6)
  labels   = ["base-r${job.value}"]
  content {
    file   = "jobs/service.nomad.hcl"
    region = "r-${job.value}"
    at     = "40s"
    copies = ceil(100 * var.scale)
    every  = "100ms"
    count  = 40
  }
}

arrivals "batch" {
  file     = "jobs/batch.nomad.hcl"
  process  = "daily"
  rate     = "${16 * var.scale}/m"
  swing    = 0.4
  peak     = "14h"
  from     = "3m"
  region   = ["r-1", "r-2", "r-3", "r-4", "r-5"]
  count    = "pareto(1, 1.1, 1000)"
  run_time = "lognormal(3m, 1.6, 12h)"
  failures = 0.02
}

arrivals "service" {
  file     = "jobs/service.nomad.hcl"
  process  = "poisson"
  rate     = "${4.7 * var.scale}/m"
  from     = "3m"
  region   = ["r-1", "r-2", "r-3", "r-4", "r-5"]
  count    = "pareto(2, 1.5, 50)"
  lifetime = "lognormal(8h, 1.5, 96h)"
}

fault "power" { # single machines, for as long as a repair or a reboot takes
  target  = "*/*/client"
  rate    = "${max(1, 14 * var.scale)}/d"
  between = ["10m", "23h"]
  for     = "lognormal(20m, 1, 6h)"
}
fault "power" { # a rack
  at     = "6h"
  for    = "2h"
  target = "r-2/d-3/client"
  count  = ceil(50 * var.scale)
}
fault "loss" { # a rack that loses half of its packets
  at       = "11h"
  for      = "1h"
  target   = "r-4/d-1/client"
  count    = ceil(50 * var.scale)
  fraction = 0.5
}
fault "crash" { # an agent of a server, five times a day
  target  = "*/*/server"
  rate    = "5/d"
  between = ["10m", "23h"]
  for     = "30s..5m"
}
fault "maintenance" { # a fifth of a datacenter's nodes, batch by batch
  target = "r-3/d-2/client"
  share  = 0.2
  at     = "20m"
  batch  = ceil(25 * var.scale)
  for    = "5m"
  gap    = "1m"
  down   = "2m"
}
fault "maintenance" {
  target = "r-5/d-1/client"
  share  = 0.2
  at     = "13h"
  batch  = ceil(25 * var.scale)
  for    = "5m"
  gap    = "1m"
  down   = "2m"
}

goal "availability" {
  at_least = 0.999
  from     = "3m"
}
goal "queue-wait" {
  quantile = 0.99
  at_most  = "10s"
}
goal "refused" {}
goal "false-deaths" {
  at_most = 2
}
goal "bandwidth" {
  at_most = "20 kB/s"
  from    = "5m"
}
