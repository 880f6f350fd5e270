# The base of random faults: serai sim fuzz tests/sim/fuzz.hcl
scenario "fuzz" {
  duration = "120s"
  settle   = "60s"
}

region "eu" {
  datacenter "paris" {
    servers = 3
    nodes "small" {
      count  = 4
      cpu    = 4000
      memory = 4096
    }
  }
  datacenter "berlin" {
    servers = 3
    nodes "small" {
      count  = 4
      cpu    = 4000
      memory = 4096
    }
  }
}

region "us" {
  datacenter "ohio" {
    servers = 3
    nodes "large" {
      count  = 4
      cpu    = 16000
      memory = 32768
    }
  }
}

job "web" {
  file   = "../../examples/sim-web.nomad.hcl"
  at     = "14s"
  region = "eu"
}

job "big" {
  file   = "../../examples/sim-big.nomad.hcl"
  at     = "22s"
  region = "eu"
}

job "batch" {
  file   = "../../examples/sim-batch.nomad.hcl"
  at     = "30s"
  region = "us"
  copies = 2
}

goal "running" {
  job   = "web"
  count = 8
}

goal "running" {
  job   = "big"
  count = 2
}
