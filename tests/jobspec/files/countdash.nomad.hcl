job "countdash" {
  datacenters = ["dc1"]

  group "api" {
    network {
      mode = "bridge"
    }

    service {
      name = "count-api"
      port = "9001"

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

    task "web" {
      driver = "docker"
      config {
        image = "counter-api:v3"
      }
    }
  }

  group "dashboard" {
    network {
      mode = "bridge"
      port "http" {
        static = 9002
        to     = 9002
      }
    }

    service {
      name = "count-dashboard"
      port = "http"

      connect {
        sidecar_service {
          tags = ["mesh"]
          proxy {
            local_service_port = 9002
            upstreams {
              destination_name = "count-api"
              local_bind_port  = 8080
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

    task "dashboard" {
      driver = "docker"
      env {
        COUNTING_SERVICE_URL = "http://${NOMAD_UPSTREAM_ADDR_count_api}"
      }
      config {
        image = "counter-dashboard:v3"
      }
    }
  }
}
