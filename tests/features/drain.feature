Feature: A gateway that leaves
  Clients are told when to come back before they are closed, and go on elsewhere as if nothing had been.

  Background:
    Given a buyer ada
    And another gateway
    And ada is connected there for buyer:ada

  Scenario: Who is connected is told when it will be closed, and misses nothing
    When the other gateway is told to leave
    Then the other gateway is ready no more
    When an event comes for ada
    Then ada has it there
    And ada is told when to come back
    When another event comes for ada
    And ada is closed there with 4200
    And ada comes back to the first gateway
    Then ada has what came meanwhile, once
    And the other gateway has ended well

  Scenario: Who is told twice to leave leaves at once
    Given the other gateway would take a minute to leave
    When the other gateway is told to leave
    Then the other gateway is ready no more
    When the other gateway is told to leave
    Then ada is closed there with 4200
    And the other gateway has ended well
