job "orders" {
  datacenters = ["dc1"]

  group "stock" {
    network {
      mode = "bridge"
    }

    service {
      name = "stock-api"
      port = "7200"

      check {
        type     = "http"
        path     = "/health"
        expose   = true
        interval = "3s"
        timeout  = "1s"
      }

      connect {
        sidecar_service {}
      }
    }

    task "stock" {
      driver = "docker"
      config {
        image = "registry.example.com/stock:2.4"
      }
    }
  }

  group "shop" {
    network {
      mode = "bridge"
      port "http" {
        static = 7300
        to     = 7300
      }
    }

    service {
      name = "shop"
      port = "http"

      connect {
        sidecar_service {
          tags = ["mesh"]
          proxy {
            local_service_port = 7300
            upstreams {
              destination_name = "stock-api"
              local_bind_port  = 7201
              mesh_gateway {
                mode = "local"
              }
            }
            transparent_proxy {
              exclude_outbound_ports = [53, 8600]
              no_dns                 = true
            }
            config {
              envoy_prometheus_bind_addr = "0.0.0.0:9102"
              max_requests               = 42
            }
          }
        }
        sidecar_task {
          resources {
            cpu    = 200
            memory = 128
          }
          logs {
            max_files = 2
          }
          env {
            LEVEL = "debug"
          }
        }
      }
    }

    task "shop" {
      driver = "docker"
      env {
        STOCK_URL = "http://${NOMAD_UPSTREAM_ADDR_stock_api}"
      }
      config {
        image = "registry.example.com/shop:2.4"
      }
    }
  }
}
