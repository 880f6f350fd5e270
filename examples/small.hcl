# Three datacenters, thirty nodes, a partition and a crash: serai sim run examples/small.hcl
scenario "small" {
  duration = "5m"
  seed     = 1
}

region "eu" {
  datacenter "paris" {
    servers = 3
    nodes "small" {
      count  = 10
      cpu    = 4000
      memory = 4096
    }
  }
  datacenter "berlin" {
    servers = 3
    nodes "small" {
      count  = 10
      cpu    = 4000
      memory = 4096
    }
  }
}

region "us" {
  datacenter "ohio" {
    servers = 3
    nodes "large" {
      count  = 10
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

job "web" {
  file   = "sim-web.nomad.hcl"
  at     = "20s"
  region = "eu"
}

# Asks more memory an instance than any node of eu has: it spills over to us.
job "big" {
  file   = "sim-big.nomad.hcl"
  at     = "25s"
  region = "eu"
}

job "batch" {
  file   = "sim-batch.nomad.hcl"
  at     = "30s"
  region = "us"
  copies = 5
}

fault "partition" {
  at   = "60s"
  for  = "40s"
  from = "eu"
  to   = "us"
}

fault "crash" {
  at     = "120s"
  for    = "30s"
  target = "eu/paris/leader"
}

goal "running" {
  job   = "web"
  count = 8
}

goal "running" {
  job   = "big"
  count = 2
}

goal "placed-in" {
  job    = "big"
  region = "us"
}
