Feature: Who is revoked is shut out at once
  An admin's word closes what is open and refuses what is new; a token that is issued afterwards is good.

  Background:
    Given a buyer ada
    And a buyer bob
    And an admin root

  Scenario Outline: An open connection over <transport> is closed
    Given ada watches buyer:ada over <transport>
    And bob watches buyer:bob over <transport>
    When root revokes ada
    Then ada is told that it is revoked with <number>
    And bob is still served

    Examples:
      | transport | number |
      | WebSocket | 4004   |
      | SSE       | 200    |

  Scenario Outline: A revoked token cannot come back over <transport>
    Given root revokes ada
    When ada tries to watch buyer:ada over <transport> with the token it had
    Then it is refused as revoked
    And the number told is <number>
    When ada tries to watch buyer:ada over <transport> with a token issued afterwards
    Then it is granted

    Examples:
      | transport | number |
      | WebSocket | 4004   |
      | SSE       | 403    |

  Scenario: One connection too many is told so
    Given ada has 20 connections
    When ada tries to watch buyer:ada over WebSocket
    Then it is refused as too_many_connections
    And the number told is 4005
    When an admin closes one of ada's by root
    And ada tries to watch buyer:ada over WebSocket
    Then it is granted
