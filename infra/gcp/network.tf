# A network without public addresses: Google's services are reached from inside, the web by NAT.

resource "google_compute_network" "this" {
  name                    = "phenopipe"
  auto_create_subnetworks = false
  depends_on              = [google_project_service.used]
}

resource "google_compute_subnetwork" "nodes" {
  name                     = "phenopipe-nodes"
  network                  = google_compute_network.this.id
  ip_cidr_range            = var.ranges.nodes
  private_ip_google_access = true

  secondary_ip_range {
    range_name    = "pods"
    ip_cidr_range = var.ranges.pods
  }

  secondary_ip_range {
    range_name    = "services"
    ip_cidr_range = var.ranges.cluster
  }

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
  }
}

# The internal gateway before the Prefect server runs in a subnet of its own.
resource "google_compute_subnetwork" "gateway" {
  name          = "phenopipe-gateway"
  network       = google_compute_network.this.id
  ip_cidr_range = var.ranges.gateway
  purpose       = "REGIONAL_MANAGED_PROXY"
  role          = "ACTIVE"
}

# Cloud SQL and Memorystore live in a peered network of Google's.
resource "google_compute_global_address" "services" {
  name          = "phenopipe-services"
  network       = google_compute_network.this.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  address       = split("/", var.ranges.services)[0]
  prefix_length = tonumber(split("/", var.ranges.services)[1])
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.this.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]
}

# Cloud Storage and the registry by private.googleapis.com: the four addresses that the network
# policies let flow runs speak to.
locals {
  private_addresses = [for host in range(4) : cidrhost("199.36.153.8/30", host)]
}

resource "google_dns_managed_zone" "private" {
  for_each   = { googleapis = "googleapis.com.", registry = "pkg.dev." }
  name       = "phenopipe-${each.key}"
  dns_name   = each.value
  visibility = "private"

  private_visibility_config {
    networks {
      network_url = google_compute_network.this.id
    }
  }
}

resource "google_dns_record_set" "apex" {
  for_each     = google_dns_managed_zone.private
  managed_zone = each.value.name
  name         = each.value.dns_name
  type         = "A"
  ttl          = 300
  rrdatas      = local.private_addresses
}

resource "google_dns_record_set" "all" {
  for_each     = google_dns_managed_zone.private
  managed_zone = each.value.name
  name         = "*.${each.value.dns_name}"
  type         = "CNAME"
  ttl          = 300
  rrdatas      = [each.value.dns_name]
}

# Images of others, and alerts to webhooks.
resource "google_compute_router" "this" {
  name    = "phenopipe"
  network = google_compute_network.this.id
}

resource "google_compute_router_nat" "this" {
  name                               = "phenopipe"
  router                             = google_compute_router.this.name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"
}
